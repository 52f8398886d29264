# SPDX-License-Identifier: Apache-2.0
"""Owns a profile as lists of named entries, each with its value and its why: what commands show and compare. Pure."""

from collections.abc import Callable, Mapping

import msgspec

from policy.profile import Profile, Request


class Item(msgspec.Struct, frozen=True):
    """One entry. `words` are its value, "" for what is only there or not; `weight` orders values, more being freer."""

    why: str
    words: str = ""
    weight: float = 0

    def text(self, name: str) -> str:
        """The entry in words."""
        return f"{name} {self.words}".rstrip()


def items(key: str, profile: Profile) -> dict[str, Item]:
    """The entries of one part of `profile`, by name, in its order."""
    return _PARTS[key](profile)


def _named(key: str) -> Callable[[Profile], dict[str, Item]]:
    return lambda profile: {each.name: Item(each.why) for each in getattr(profile, key)}


def _words(key: str, field: str) -> Callable[[Profile], dict[str, Item]]:
    def listed(profile: Profile) -> dict[str, Item]:
        part = getattr(profile, key)
        return {name: Item(part.why) for name in getattr(part, field)}

    return listed


def _families(profile: Profile) -> dict[str, Item]:
    families = profile.families
    ports = families.connect_ports
    found: dict[str, Item] = {name: Item(families.why) for name in families.names}
    found |= {f"{name}, made by others": Item(families.why) for name in families.handed}
    if {"inet", "inet6"} & set(families.names):
        # No port named is every port.
        words = ", ".join(map(str, ports)) if ports else "any"
        found["TCP ports"] = Item(families.why, words, len(ports) or 1 << 16)
    return found


def _requests(profile: Profile) -> dict[str, Item]:
    return {f"{each.message} in {each.phase}": _request(each) for each in profile.requests}


def _request(request: Request) -> Item:
    conditions = ["once"] if request.once else []
    conditions += [f"after {request.after}"] if request.after else []
    return Item(request.why, f"({', '.join(conditions)})" if conditions else "", -len(conditions))


def _values(key: str) -> Callable[[Profile], dict[str, Item]]:
    def listed(profile: Profile) -> dict[str, Item]:
        part = getattr(profile, key)
        values = {field: getattr(part, field) for field in part.__struct_fields__ if field != "why"}
        return {
            name: Item(part.why, str(value), value if isinstance(value, int | float) else 0)
            for name, value in values.items()
        }

    return listed


def _process(profile: Profile) -> dict[str, Item]:
    """What it is and how it is started."""
    identity = profile.identity
    values = {name: getattr(profile, name) for name in ("module", "start", "transport", "view", "programs")}
    found = {name: Item(profile.why, value) for name, value in values.items() if value}
    return {**found, "uid": Item(identity.why, str(identity.uid)), "uids": Item(identity.why, str(identity.count))}


_PARTS: Mapping[str, Callable[[Profile], dict[str, Item]]] = {
    "process": _process,
    "capabilities": _named("capabilities"),
    "start_capabilities": _named("start_capabilities"),
    "namespaces": _words("namespaces", "new"),
    "families": _families,
    "descriptors": _words("descriptors", "types"),
    "requests": _requests,
    "runs": _named("runs"),
    "hidden": lambda profile: {path: Item(profile.why) for path in profile.hidden},
    "preload": lambda profile: {name: Item(profile.why) for name in profile.preload},
    "limits": _values("limits"),
    "lifetime": _values("lifetime"),
}
