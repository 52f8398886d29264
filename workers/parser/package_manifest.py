# SPDX-License-Identifier: Apache-2.0
"""Owns a handler's manifest in storage (extensions.md 6): its bytes and the wanted version to a `PackageChoice`.

Runs in the parser. An entry that is none is passed over: it spoils no other version.
"""

import re

from ipc.errors import InputError
from ipc.messages import PackageChoice
from workers.parser import xml
from workers.parser.answer import fitting
from workers.parser.bounds import MAX_EXTENSIONS_BYTES

# Some hundred versions, in as many regions as there are.
MAX_ELEMENTS = 32_768
MAX_URIS = 32
MAX_URI = 4096
# So many versions are named where none of them fits.
TOLD = 24
LISTS = ("Plugins", "InternalPlugins")
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}")


def parse(document: bytes, wanted: str) -> PackageChoice:
    """The highest version that begins with the components of `wanted`. Raises InputError that names the element, or the
    line and column."""
    source = xml.as_utf8(document, MAX_EXTENSIONS_BYTES)
    root = xml.parse(source, namespaces=False, most_elements=MAX_ELEMENTS)
    if root.name != "PluginVersionManifest":
        raise InputError("PluginVersionManifest", "is not the document's root element")
    plugins = [plugin for name in LISTS for each in root.below(name) for plugin in each.below("Plugin")]
    offered = [(version, plugin) for plugin in plugins if _VERSION.fullmatch(version := _text(plugin.first("Version")))]
    fitting_ones = [each for each in offered if _matches(wanted, each[0])]
    if not fitting_ones:
        return fitting(PackageChoice("", (), _problem(wanted, [version for version, _ in offered])))
    version, plugin = max(fitting_ones, key=lambda each: _components(each[0]))
    uris = _uris(plugin)
    problem = "" if uris else f"version {version} has no Uri that could be asked for"
    return fitting(PackageChoice(version if uris else "", uris, problem))


def _text(node: xml.Element | None) -> str:
    return "" if node is None else (node.text or "").strip()


def _components(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _matches(wanted: str, version: str) -> bool:
    """Whether `version` is `wanted`, or a finer one of it: 1.0 is met by 1.0.3, and 1.0.0 is not by 1.0."""
    components = _components(wanted)
    return _components(version)[: len(components)] == components


def _uris(plugin: xml.Element) -> tuple[str, ...]:
    node = plugin.first("Uris")
    found = () if node is None else map(_text, node.below("Uri"))
    return tuple(dict.fromkeys(uri for uri in found if 0 < len(uri) <= MAX_URI))[:MAX_URIS]


def _problem(wanted: str, versions: list[str]) -> str:
    if not versions:
        return f"no version matches {wanted}: the manifest has none at all"
    known = sorted(set(versions), key=_components, reverse=True)
    more = f" and {len(known) - TOLD} more" if len(known) > TOLD else ""
    return f"no version matches {wanted}: there are {', '.join(known[:TOLD])}{more}"
