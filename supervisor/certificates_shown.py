# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of what `agent-supervisor certificates` tells; made by the supervisor, read by the command. Data."""

from collections.abc import Iterable, Mapping

import msgspec

from ipc.messages import Plugin
from supervisor.certificate_store import Certificate


class Row(msgspec.Struct, frozen=True):
    """One certificate; `used_by` are the handlers whose protected settings are for it, in the goal state in force."""

    thumbprint: str
    subject: str
    expires: float
    private_key: bool
    kind: str
    used_by: tuple[str, ...]


class Shown(msgspec.Struct, frozen=True):
    """All of them. `problems`: what was wrong with the host's last reply; `missing`: thumbprints that the protected
    settings of handlers are for and that this VM does not have; `fips`: only algorithms of FIPS are asked for."""

    certificates: tuple[Row, ...] = ()
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    fips: bool = False


def shown(
    known: Mapping[str, Certificate], problems: tuple[str, ...], plugins: Iterable[Plugin], *, fips: bool
) -> Shown:
    """`plugins` are those of the goal state in force."""
    users: dict[str, dict[str, None]] = {}
    for plugin in plugins:
        for settings in plugin.settings:
            if settings.thumbprint:
                users.setdefault(settings.thumbprint, {})[f"{plugin.name} {plugin.version}"] = None
    rows = tuple(_row(each, tuple(users.get(each.thumbprint, ()))) for each in known.values())
    return Shown(rows, problems, tuple(name for name in users if name not in known), fips)


def _row(one: Certificate, users: tuple[str, ...]) -> Row:
    return Row(one.thumbprint, one.subject, float(one.not_after_s), one.has_private_key, one.key_kind, users)
