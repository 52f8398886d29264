# SPDX-License-Identifier: Apache-2.0
"""Owns how long a document may be; all readers and the parser itself hold to it."""

# Azure takes custom data of 64 KiB, 87,384 characters of base64; the rest of any document is a few KiB. Ten times that
# leaves room for what Azure adds, and the parser, which holds some five copies at once, stays small.
MAX_DOCUMENT_BYTES = 1024 * 1024
# A goal state's extensions each bring a signature of some 13 KiB and settings of up to as much; a file of events is
# allowed this much by its own contract (extensions.md 11).
MAX_EXTENSIONS_BYTES = 2 * 1024 * 1024
# One event of an old extension.
MAX_RECORD_BYTES = 256 * 1024
MAX_EVENTS_BYTES = 4 * 1024 * 1024
