# SPDX-License-Identifier: Apache-2.0
"""Owns what a handler can be called; parser, supervisor and policy all go by it.

The name becomes that of a folder, behind whose last '-' the version stands (extensions.md 1).
"""

import re

LONGEST_NAME = 128
PATTERN = r"[A-Za-z0-9][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*"
EXPECTED = f"letters, digits, '_' and single dots are expected, at most {LONGEST_NAME} of them"
_NAME = re.compile(PATTERN)


def is_handler_name(text: str) -> bool:
    """Whether a handler can be called so."""
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None
