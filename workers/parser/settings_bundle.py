# SPDX-License-Identifier: Apache-2.0
"""Owns the file that goes with a goal state: settings files as handlers get them, and the packages' signatures.

Runs in the parser. Values stay as they were written; nothing of them may be in a message or in a problem's text.
"""

import base64
import binascii

import msgspec

from ipc.messages import Span

NULL = b"null"


class HandlerSettings(msgspec.Struct, rename="camel"):
    """The JSON text of each value of one extension's settings."""

    public_settings: msgspec.Raw = msgspec.Raw(NULL)
    protected_settings: msgspec.Raw = msgspec.Raw(NULL)
    protected_settings_cert_thumbprint: msgspec.Raw = msgspec.Raw(NULL)


class SettingsBundle:
    """What has been put together so far; `content` is all of it."""

    def __init__(self) -> None:
        self._content = bytearray()

    @property
    def content(self) -> bytes:
        return bytes(self._content)

    def add_settings(self, settings: HandlerSettings) -> Span:
        """A settings file (extensions.md 5)."""
        return self._add(msgspec.json.encode({"runtimeSettings": [{"handlerSettings": settings}]}))

    def add_signature(self, text: str) -> Span:
        """A signature in base64. What is none goes as it is: to leave it out would make its package an unsigned one."""
        try:
            return self._add(base64.b64decode("".join(text.split()), validate=True))
        except (binascii.Error, ValueError):
            return self._add(text.encode(errors="replace"))

    def _add(self, part: bytes) -> Span:
        span = Span(len(self._content), len(part)) if part else Span()
        self._content += part
        return span
