# SPDX-License-Identifier: Apache-2.0
"""Owns the commands by which a running emulated host is told to publish: the words, and what each makes it do.

Runs in the host's process, in the thread of the control connection.
"""

from pathlib import Path
from typing import Any

from tests.fabric.goal_state_control import GoalStateControl
from tests.fabric.plan import Plan, read_plan
from tests.fabric.tenancy import DEFAULT_KINDS

COMMANDS = ("publish", "envelopes", "fast", "plugin", "metadata", "blob", "stock", "last")


def publish(host: GoalStateControl, command: str) -> dict[str, Any]:
    """Carry out one command; what is to be told. Raises ValueError.

    publish [WORD...] [{PLAN}]   the next goal state; PLAN as plan.Plan has it, in JSON (without: the last one's)
        same-container           it keeps the container's id
        same-incarnation         it keeps the incarnation: another host has taken the VM over, as after a hibernation
        incomplete=N             its first N answers lack the role instance
        rotate                   the tenant gets fresh certificates of the same kinds first
        certificates=KIND,KIND   the tenant gets certificates of these kinds first (tenant.KINDS; empty: none)
    envelopes WORD...            how things are sealed from now on (tenancy.Tenancy.set)
    fast [{PLAN}]                vmSettings tell of a FastTrack goal state; without a plan, of the WireServer's again
    plugin WORD...               what the HostGAPlugin is like (goal_state_control.set_plugin)
    metadata NAME=VALUE...       what the instance metadata service tells otherwise
    blob PATH TEXT               have that in the storage account; its URL
    stock HANDLER VERSION=FILE,FILE...
                                 have the handler's packages, each version's at as many places, and their manifest
    last                         the last status, the thumbprints, where the proxy connected
    """
    words, plan = _parts(command)
    match words:
        case ["publish", *options]:
            return _publish(host, options, plan)
        case ["envelopes", *options]:
            host.set_envelopes(*options)
        case ["fast"]:
            return {"etag": host.publish_fast(plan)}
        case ["plugin", *options]:
            host.set_plugin(*options)
        case ["metadata", *options]:
            host.set_metadata(**dict(option.split("=", 1) for option in options))
        case ["blob" | "stock", name, *versions]:
            content = command.split(None, 2)[2].encode()
            is_blob = words[0] == "blob"
            url = host.put_blob(name, content) if is_blob else host.stock(name, dict(map(_stocked, versions)))
            return {"url": url}
        case ["last"]:
            return _last(host)
        case _:
            raise ValueError(f"no such command: {command!r}")
    return {}


def _stocked(option: str) -> tuple[str, list[bytes]]:
    """A version, and what is at each of its places. Raises ValueError."""
    version, _, files = option.partition("=")
    try:
        return version, [Path(file).read_bytes() for file in files.split(",")]
    except OSError as error:
        raise ValueError(f"no package to stock: {error}") from None


def _last(host: GoalStateControl) -> dict[str, Any]:
    statuses = host.statuses
    return {
        "status": statuses[-1] if statuses else None,
        "thumbprints": list(host.tenancy.thumbprints),
        "connected": list(host.connected),
    }


def _parts(command: str) -> tuple[list[str], Plan | None]:
    words, brace, rest = command.partition("{")
    return words.split(), read_plan(brace + rest) if brace else None


def _publish(host: GoalStateControl, options: list[str], plan: Plan | None) -> dict[str, Any]:
    incomplete = 0
    for option in options:
        name, _, value = option.partition("=")
        if name == "incomplete":
            incomplete = int(value)
        elif name == "rotate":
            host.renew_certificates(host.tenancy.kinds or DEFAULT_KINDS)
        elif name == "certificates":
            host.renew_certificates([kind for kind in value.split(",") if kind])
        elif option not in {"same-container", "same-incarnation"}:
            raise ValueError(f"no such option: {option!r}")
    goal_state = host.publish(
        new_container="same-container" not in options,
        incomplete=incomplete,
        plan=plan,
        steps=0 if "same-incarnation" in options else 1,
    )
    return {
        "incarnation": goal_state.incarnation,
        "container_id": goal_state.container_id,
        "thumbprints": list(host.tenancy.thumbprints),
    }
