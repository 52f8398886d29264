# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor prove`: attacks from the exact confinement of each kind of process, and what came of them."""

import argparse
import os
import sys
from collections.abc import Mapping
from typing import TypeVar

from ipc.errors import AgentError
from policy.capability import NAMES
from supervisor.cli import prove_handlers
from supervisor.prove import controls, handler_verdict, probes, proving, report, throwaway
from supervisor.prove.catalogue import DROPPABLE, Attack, Reach, lint, read_catalogue
from supervisor.prove.handler_cases import CLASSES, Case, read_cases

EXIT_HOLDS, EXIT_HOLES, EXIT_USAGE, EXIT_NO_PERMISSION = 0, 1, 2, 4
FEW = 2
Chosen = TypeVar("Chosen", Attack, Case)

EPILOG = """\
Every probe is a process of its own: no live process is touched, and what could be harmed is a decoy in namespaces that
prove makes for itself. A case counts as stopped only if the same probe succeeds without confinement in the same run.
What a vendor's command reaches is tried under systemd, by a command of each class, and held against what is expected.

exit status: 0 nothing succeeded beyond what policy grants (with --without: something did, as it should), and classes of
handlers reach what is expected and nothing else; 1 otherwise, or what was asked for by name could not be tried;
2 wrong usage, or --without where nothing may be weakened; 4 not root.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "workers",
        nargs="*",
        metavar="WORKER",
        help="kinds of process, and handlers' classes: compat, contained (default: all)",
    )
    parser.add_argument("--case", action="append", default=[], metavar="ID", help="only this attack; may be repeated")
    parser.add_argument("--cases", action="store_true", help="tell case by case for many kinds, too")
    parser.add_argument(
        "--without",
        metavar="CONTROL",
        choices=DROPPABLE,
        help="leave this control out, in throw-away namespaces over an overlay only: " + ", ".join(DROPPABLE),
    )
    parser.add_argument("--json", action="store_true", help="one JSON object (docs/prove.md)")
    parser.set_defaults(carry_out=carry_out)


def carry_out(options: argparse.Namespace) -> int:
    """Prove, and tell."""
    if os.geteuid() != 0:
        return _complain("prove needs root: it makes the confinement that it attacks from", EXIT_NO_PERMISSION)
    try:
        attacks, cases = read_catalogue(), read_cases()
        reaches, policies = proving.read_reaches()
        refusal = _refusal(options, attacks, cases, reaches)
        if refusal:
            return _complain(refusal)
        drop = controls.DROPS[options.without] if options.without else controls.Drop()
        kinds = _kinds(options, drop, reaches)
        attacks = _chosen(options, drop.among(attacks)) if kinds else ()
        accounts = tuple(attack for attack in attacks if attack.origin == "local user" and attack.probe)
        order = proving.Order(
            attacks,
            tuple(reaches[kind] for kind in kinds),
            policies,
            () if options.workers or options.without else accounts,
            drop.everything,
        )
        verdicts = proving.prove(order) if attacks else ()
        handlers = prove_handlers.prove(options, _chosen(options, cases))
    except (AgentError, OSError) as error:
        return _complain(f"nothing is proven: {error}", EXIT_HOLES)
    proof = report.Proof(attacks, verdicts, os.uname().release, tuple(sorted(order.without)), handlers)
    if options.json:
        sys.stdout.write(report.as_json(proof).decode() + "\n")
        return _status(proof)
    if attacks:
        print("\n".join(report.lines(proof, case_by_case=options.cases or len(kinds) <= FEW)))
    if options.without and not any(verdict.state == "succeeded" for verdict in verdicts):
        shown = ", ".join(drop.kinds) or "any kind"
        print(f"Nothing succeeded without it here: others stand behind it. It is shown on {shown}: name no worker.")
    if handlers is not None:
        told = handler_verdict.lines(handlers, case_by_case=options.cases)
        print("\n".join(["", *told] if attacks else told))
    return _status(proof)


def _status(proof: report.Proof) -> int:
    succeeded = any(verdict.state == "succeeded" for verdict in proof.verdicts)
    broken = any(verdict.state == "broken" for verdict in proof.verdicts)
    otherwise = proof.handlers is not None and not proof.handlers.holds
    return EXIT_HOLES if broken or otherwise or succeeded != bool(proof.without) else EXIT_HOLDS


def _kinds(options: argparse.Namespace, drop: controls.Drop, reaches: Mapping[str, Reach]) -> list[str]:
    """Those to attack from: none where handlers' classes alone are named."""
    if options.workers:
        return [word for word in options.workers if word not in CLASSES]
    return list(drop.kinds or reaches)


def _chosen(options: argparse.Namespace, all_of_them: tuple[Chosen, ...]) -> tuple[Chosen, ...]:
    """Those that --case names, all where it names none."""
    wanted = set(options.case)
    return tuple(each for each in all_of_them if not wanted or each.id in wanted)


def _refusal(
    options: argparse.Namespace, attacks: tuple[Attack, ...], cases: tuple[Case, ...], reaches: dict[str, Reach]
) -> str:
    """Why nothing is done; empty if there is no reason. AgentError for a catalogue that is not as it should be."""
    problems = lint(attacks, probes.ALL, NAMES)
    if problems:
        raise AgentError(f"the catalogue is not as it should be: {'; '.join(problems)}")
    unknown = sorted(set(options.workers) - {*reaches, *CLASSES})
    if unknown:
        return f"there is no kind of process {', '.join(unknown)}; there are {', '.join((*reaches, *CLASSES))}"
    missing = sorted(set(options.case) - {*(each.id for each in attacks), *(each.id for each in cases)})
    if missing:
        return f"there is no attack {', '.join(missing)}"
    if options.workers and options.case and set(options.workers) <= set(CLASSES) and not _chosen(options, cases):
        return f"nothing is tried: of {', '.join(options.workers)} there is no {', '.join(options.case)}"
    if options.without and set(options.workers) & set(CLASSES):
        return "--without leaves out controls of the agent's own processes, and of no handler's class"
    if options.without and (why := throwaway.why_not()):
        return f"--without weakens confinement, which is done in throw-away namespaces over an overlay only: {why}"
    return ""


def _complain(sentence: str, status: int = EXIT_USAGE) -> int:
    print(f"agent-supervisor: {sentence}", file=sys.stderr)
    return status
