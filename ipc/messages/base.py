# SPDX-License-Identifier: Apache-2.0
"""Owns the base of every message and the bounded kinds of text in them; used everywhere, imports nothing of ours."""

from typing import Annotated

import msgspec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Short = Annotated[str, msgspec.Meta(max_length=1024)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything in the catalogue."""
