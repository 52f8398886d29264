# SPDX-License-Identifier: Apache-2.0
"""kill -9 in every gap between two effects of a provisioning, and the same end each time."""
