# SPDX-License-Identifier: Apache-2.0
"""Owns the HostGAPlugin's /versions (hostga-plugin.md 2): its bytes to a typed `PluginVersions`; runs in the parser."""

from ipc.messages import PluginVersions
from workers.parser.answer import fitting
from workers.parser.json_document import decode


def parse(document: bytes) -> PluginVersions:
    """Raises InputError that names the entry."""
    return fitting(PluginVersions(tuple(decode(document, list[str]))))
