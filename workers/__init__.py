# SPDX-License-Identifier: Apache-2.0
"""Every job that runs outside the supervisor, one folder a worker; a worker holds the few privileges of its job."""
