# SPDX-License-Identifier: Apache-2.0
"""The storage worker, through its real process, against an account that does whatever the path asks for."""
