# SPDX-License-Identifier: Apache-2.0
"""Owns how a test has a worker attack, and reads what came of it."""

from typing import Any

from tests.jail.rigged import Rig

HONEST = "<Versions><Preferred><Version>1</Version></Preferred></Versions>"


def attack(rig: Rig, name: str, *words: object, kind: str = "parser", final: str = "") -> dict[str, Any]:
    """What the fleet said of the job on which its worker attacked."""
    content = " ".join(["attack", name, *map(str, words)])
    return rig.ask("job", kind=kind, content=content, final=final)


def outcome(rig: Rig, name: str) -> str:
    """How the attempt `name` of a taken-over worker ended: "succeeded", "denied ERRNO", or how the worker ended."""
    answer = attack(rig, name, rig.supervisor)
    said: list[str] = [line.rpartition(f"{name} ")[2] for line in answer["log"] if f": {name} " in line]
    if said:
        return said[0]
    return str(answer.get("text", "succeeded without a word"))


def does_honest_work(rig: Rig) -> bool:
    """Whether a worker that is not taken over does its job."""
    return rig.ask("job", kind="parser", content=HONEST).get("messages") == ["Versions"]
