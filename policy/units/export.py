# SPDX-License-Identifier: Apache-2.0
"""Owns the making of a kind's unit out of its parts. Pure: profiles and call groups in, file names and texts out."""

from collections.abc import Iterable, Mapping

from policy.facts import Facts, facts_of
from policy.groups import CallGroup, stages
from policy.lint import TENANTS
from policy.profile import Profile
from policy.units.directive import Directive, Line, Remark, text_of
from policy.units.files import files
from policy.units.identity import identity, keys_and_objects
from policy.units.kernel import calls, protections
from policy.units.limits import lifetime, limits
from policy.units.network import namespaces, network

_HEAD = (
    "SPDX-License-Identifier: Apache-2.0",
    "Made by `agent-supervisor policy export-units` from the policy of one kind of process. For tools that read units: "
    "it is not to be started. The agent's spawner starts and confines this process itself; each line below is "
    "something that it enforces, and where it does so by another mechanism than systemd would, a comment names it.",
)


# What no worker of the agent's is.
TENANT = "the tenant's own program, where no systemd runs"


def unit_name(kind: str) -> str:
    """The file name of the unit of `kind`."""
    return f"agent-supervisor-{kind}.service"


def export(profiles: Iterable[Profile], groups: Mapping[str, CallGroup], python: str) -> dict[str, str]:
    """File name and text of the unit of each of `profiles`, whose paths have their placeholders filled in.

    `python` is the interpreter that the unit would start."""
    everyone = tuple(profiles)
    return {
        unit_name(profile.kind): _unit(facts_of(profile, stages(profile, everyone, groups)[1]), python)
        for profile in everyone
    }


def _unit(facts: Facts, python: str) -> str:
    profile = facts.profile
    about: list[Line] = [
        Remark(profile.why),
        *([Remark(f"It is {TENANT}: no worker of the agent's.")] if profile.kind in TENANTS else ()),
        Directive("Description", f"{profile.kind} of agent-supervisor, as its policy confines it"),
        Directive("RefuseManualStart", "yes"),
    ]
    spawner = profile.locked_calls.children
    if not spawner:
        spawners = unit_name("spawner")
        about += [Directive("BindsTo", spawners, "It gets SIGKILL when the spawner ends"), Directive("After", spawners)]
    service = [
        *lifetime(facts, f"{python} -I -m {profile.module}"),
        *identity(facts),
        *keys_and_objects(facts),
        *namespaces(facts),
        *network(facts),
        *files(facts),
        *protections(facts),
        *calls(facts),
        *([Directive("Delegate", "yes", "The groups of its children")] if spawner else ()),
        *limits(facts),
    ]
    return text_of(_HEAD, {"Unit": about, "Service": service})
