# SPDX-License-Identifier: Apache-2.0
"""Every parser of untrusted bytes; runs in the parser worker alone, which has no privilege and no other file."""
