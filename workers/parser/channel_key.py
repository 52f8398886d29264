# SPDX-License-Identifier: Apache-2.0
"""Owns the secure channel's key (secure-channel.md, Endpoints): its bytes to a typed `ChannelKey`; runs in the parser.

No problem's text may hold the key.
"""

import re

import msgspec

from ipc.errors import InputError
from ipc.messages import ChannelKey
from ipc.secret import Secret
from workers.parser.json_document import check_scheme, decode, guid, incarnation

# As the host writes it: seconds, a fraction of any length, a zone or none.
_ISSUED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:?[0-9]{2})?")
_KEY = re.compile(r"[0-9A-Fa-f]{64}")


class _Document(msgspec.Struct, rename="camel"):
    authorization_scheme: str
    guid: str
    issued: str
    key: str
    incarnation_id: int | None = None


def parse(document: bytes) -> ChannelKey:
    """Raises InputError that names the field."""
    found = decode(document, _Document)
    check_scheme(found.authorization_scheme)
    if not _ISSUED.fullmatch(found.issued):
        raise InputError("issued", "is no date and time of ISO 8601")
    if not _KEY.fullmatch(found.key):
        raise InputError("key", "is not 64 hex digits")
    return ChannelKey(
        guid=guid(found.guid, "guid"),
        key=Secret(found.key),
        issued=found.issued,
        incarnation=incarnation(found.incarnation_id, "incarnationId"),
    )
