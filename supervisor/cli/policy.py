# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor policy`: its sub-commands, what they have in common, and how they complain.

Reads the policy's sources; asks no agent. Each sub-command loads what it needs only when it is carried out.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ipc.errors import ConfigError
from policy.load import own_folder
from supervisor.cli.actions import add_actions
from supervisor.cli.printable import printable
from supervisor.policy_files import Places

if TYPE_CHECKING:
    from policy.in_force import InForce

EXIT_WELL, EXIT_FOUND, EXIT_TROUBLE, EXIT_NO_PERMISSION = 0, 1, 2, 4

EPILOG = """\
The policy says what each kind of process may do, and why: the files that were installed, with those of
/etc/agent-supervisor/policy.d merged in.

exit status: 0 all is well (diff: no difference); 1 lint found something, diff a difference, score more than is
allowed; 2 a file can't be used, or wrong usage; 4 no permission to read one
"""

Action = Callable[[argparse.Namespace], int]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command and of all its sub-commands."""
    from supervisor.cli import policy_diff, policy_export, policy_lint, policy_score, policy_show, policy_sign

    actions = add_actions(
        parser,
        EPILOG,
        ("show", policy_show.configure, "show what each kind of process may do, or all of one kind with the reasons"),
        ("lint", policy_lint.configure, "look for faults in the policy and in overrides, a line each"),
        ("diff", policy_diff.configure, "compare what is in force with what was installed, or two editions"),
        ("score", policy_score.configure, "tell how exposed each kind is: by its policy, and by systemd's measure"),
        (
            "export-units",
            policy_export.configure,
            "write an equivalent systemd unit for each kind, for tools that read units",
        ),
    )
    policy_sign.configure_sign(actions)
    policy_sign.configure_verify(actions)


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """`--policy-dir` and `--shipped`: where overrides and the installed policy are."""
    parser.add_argument(
        "--policy-dir", metavar="DIR", default=Places().overrides, help="overrides (default: %(default)s)"
    )
    parser.add_argument(
        "--shipped", metavar="DIR", type=Path, default=Path(own_folder()), help="the policy that was installed"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def overrides_in(folder: str) -> dict[str, bytes]:
    """The override files there, by name. On the machine itself they have to be root's, as at a start.

    ConfigError, with the file's name, for one that may not be used; a folder that is not there has none."""
    from supervisor.policy_files import gathered

    places = Places()
    strict = folder == places.overrides
    return gathered(Places(overrides=folder, strict=strict), own_folder()).overrides


def chosen_policy(options: argparse.Namespace) -> "InForce":
    """The policy that the options of `add_policy_options` name."""
    from policy.in_force import in_force

    return in_force(options.shipped, overrides_in(options.policy_dir))


def carried_out(action: Action) -> Action:
    """`action`, with what can go wrong told in one line."""

    def carry_out(options: argparse.Namespace) -> int:
        try:
            return action(options)
        except PermissionError as error:
            return _complain(f"{error.filename} can't be read: be root", EXIT_NO_PERMISSION)
        except OSError as error:
            return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), EXIT_TROUBLE)
        except (ConfigError, ValueError) as error:
            return _complain(str(error), EXIT_TROUBLE)

    return carry_out


def _complain(sentence: str, status: int) -> int:
    print(printable(f"agent-supervisor: {sentence}"), file=sys.stderr)
    return status
