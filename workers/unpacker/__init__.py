# SPDX-License-Identifier: Apache-2.0
"""The unpacker: a handler's package in, its contents and an index of them out, by a process with nothing to lose."""
