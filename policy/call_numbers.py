# SPDX-License-Identifier: Apache-2.0
"""Owns the numbers of system calls (policy/call_numbers.toml), by name, for the machines that it lists.

Used by lint and the command line, where libseccomp may not be installed; never imported by a resident process.
"""

import os
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def tables() -> Mapping[str, Mapping[str, int]]:
    """By machine (as in os.uname), each name and its number there."""
    found: dict[str, dict[str, int]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return found


def is_known(name: str) -> bool:
    """Whether any listed machine has a call of that name."""
    return any(name in table for table in tables().values())


def is_here(name: str, machine: str | None = None) -> bool:
    """Whether `machine` (this one) has it; one that is not listed counts as having all."""
    machine = machine or os.uname().machine
    return is_known(name) and name in tables().get(machine, {name: 0})


def name_of(number: int, machine: str | None = None) -> str:
    """The call that has this number on `machine` (this one), or "call N" for a number without a name here."""
    return _names(machine or os.uname().machine).get(number, f"call {number}")


@cache
def _names(machine: str) -> Mapping[int, str]:
    return {number: name for name, number in tables().get(machine, {}).items()}
