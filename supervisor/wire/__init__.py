# SPDX-License-Identifier: Apache-2.0
"""HTTP to the Azure host, inside the supervisor: bytes go out and come in here, documents are parsed by workers."""
