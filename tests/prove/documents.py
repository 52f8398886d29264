# SPDX-License-Identifier: Apache-2.0
"""Owns docs/attacks.md and docs/attack-matrix.md: what is in them, from catalogue and matrix. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.prove.catalogue import Attack, Grant
from supervisor.prove.handler_cases import WAYS, Case

ATTACKS_HEAD = """\
# Attacks

Made from `policy/attacks/*.toml` by `python -m tests.prove --write`. `agent-supervisor prove` tries each of them from
the confinement of every kind of process, and as root without any. Numbers are those of the list of sixty cases that
every design of this sort is held against; `-` is one of our own.

Controls that are meant to stop a case are named in the order in which they meet it. "Granted where" is what of a policy
makes it that process's right.
"""
BY_HAND = """\
## By hand

Five of them are tried without any code of ours in the attacker, with other programs or explicit steps:

| attack | where |
|---|---|
| reading another worker's memory | `tests/prove/test_by_hand.py`: `test_another_workers_memory_is_not_read` |
| claiming another worker's endpoint | `tests/prove/test_by_hand.py`: `test_another_workers_endpoint_is_not_claimed` |
| leaving the cgroup | `tests/prove/test_by_hand.py`: `test_nobody_leaves_its_cgroup` |
| re-opening a handed descriptor | `tests/prove/test_by_hand.py`: `test_a_handed_descriptor_is_not_reopened` |
| outliving a kill | `tests/prove/test_by_hand.py`: `test_nobody_outlives_a_kill` |
"""
HANDLERS_HEAD = """
## From vendors' commands

Made from `policy/attacks/handlers/*.toml`. `prove` tries each from a command of class `compat` and from one of
`contained`, both started as any handler's, by the plain way and, after the stroke, as one who means it would. It holds
what comes of it against this table.

| no. | id | what it comes by | compat | contained | why |
|---|---|---|---|---|---|
"""
HANDLER_MATRIX_HEAD = """
## What each control of vendors' commands stops

The same for the classes of handlers. A control is left out where it is, in the agent's own code; commands of that class
are then started by it in a lab under systemd. `compat` is no boundary, and only the plain way is stopped.

| control of a class | class | left out before it | cases that come out otherwise |
|---|---|---|---|
"""
MATRIX_HEAD = """\
# What each control alone stops

Made by `python -m tests.prove --write`, which leaves out one control after the other in a lab and attacks again; a test
holds it to be so. Controls overlap. Where another one stands before a control, that one is left out as well, before and
after: then the control is the last that stands, and what succeeds without it is what it alone stops.

| control | shown on | left out before it | attacks that succeed without it |
|---|---|---|---|
"""


def attacks_document(catalogue: Sequence[Attack], cases: Sequence[Case]) -> str:
    """docs/attacks.md."""
    tried = [attack for attack in catalogue if attack.probe]
    rows = [
        "\n## Tried by `prove`\n",
        "| no. | id | attack | from | meant to stop it | granted where | also tested |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {attack.number or '-'} | `{attack.id}` | {attack.title} | {attack.origin} "
            f"| {', '.join(attack.controls)} | {'; or '.join(map(_grant, attack.granted)) or '-'} "
            f"| {_tests(attack.tested)} |"
            for attack in tried
        ),
        "\n## Not tried by `prove`\n",
        "| no. | attack | why | tested |",
        "|---|---|---|---|",
        *(
            f"| {attack.number or '-'} | {attack.title} | {attack.absent} | {_tests(attack.tested)} |"
            for attack in catalogue
            if attack.absent
        ),
    ]
    of_handlers = HANDLERS_HEAD + "".join(map(_case, cases))
    return ATTACKS_HEAD + "\n".join(rows) + "\n" + of_handlers + "\n" + BY_HAND


def _case(case: Case) -> str:
    ways = [way for way in WAYS if case.line(way)]
    compat, contained = (
        " / ".join(case.expected(handler_class, way) for way in ways) for handler_class in ("compat", "contained")
    )
    return f"| {case.number or '-'} | `{case.id}` | {case.title} | {compat} | {contained} | {case.why or '-'} |\n"


def matrix_row(control: str, found: Mapping[str, Any]) -> str:
    """One line of the first table in docs/attack-matrix.md."""
    flips = ", ".join(f"`{name}`" for name in found["flips"])
    return f"| {control} | {found['kind']} | {', '.join(found['behind']) or '-'} | {flips} |"


def handler_row(control: str, found: Mapping[str, Any]) -> str:
    """One line of the second one in docs/attack-matrix.md."""
    flips = ", ".join(f"`{name}`" for name in found["flips"])
    return f"| {control} | {found['class']} | {', '.join(found['behind']) or '-'} | {flips} |"


def matrix_document(matrix: Mapping[str, Mapping[str, Any]], handlers: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/attack-matrix.md."""
    rows = [matrix_row(control, found) for control, found in matrix.items()]
    of_handlers = [handler_row(control, found) for control, found in handlers.items()]
    return "\n".join([MATRIX_HEAD.rstrip("\n"), *rows, HANDLER_MATRIX_HEAD.rstrip("\n"), *of_handlers]) + "\n"


def _tests(named: str) -> str:
    return ", ".join(f"`{path.strip()}`" for path in named.split(",") if path.strip()) or "-"


def _grant(grant: Grant) -> str:
    words = [
        grant.path and f"`{grant.path}` may be {_PAST[grant.to]}",
        grant.capability and f"capability {grant.capability}",
        grant.family and f"family {grant.family}",
        grant.shares and f"the host's {grant.shares} namespace",
        grant.calls and f"call {grant.calls}",
        f"port {grant.port}" if grant.port else "",
        "uid 0" if grant.uid is not None else "",
        "view not sealed" if grant.view else "",
    ]
    return ", ".join(word for word in words if word)


_PAST = {
    "read": "read",
    "write": "written",
    "run": "run",
    "remove": "removed from",
    "list": "listed",
    "change": "changed in mode and owner",
}
