# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor policy lint`: every fault of the policy, of overrides, and of the tree that it is for."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from ipc.errors import ConfigError
from supervisor.cli.policy import EXIT_FOUND, EXIT_WELL, add_policy_options, carried_out, overrides_in
from supervisor.cli.printable import printable
from supervisor.layout import Layout
from supervisor.policy_files import Places

EPILOG = """\
FILE... are override files to be looked at instead of those of the folder, before they are put there. An override that
lets a process do more than the installed policy is a fault, unless Policy.AllowLoosening=y in the configuration, or
--allow-loosening. Signatures are the affair of `policy verify`.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("files", nargs="*", metavar="FILE", type=Path, help="override files")
    parser.add_argument("--allow-loosening", action="store_true", help="loosenings are no fault")
    parser.add_argument("--config", metavar="FILE", default=Layout().config, help="settings (default: %(default)s)")
    add_policy_options(parser)
    parser.set_defaults(carry_out=carried_out(_lint))


def _lint(options: argparse.Namespace) -> int:
    from policy.lint_all import faults

    given = {path.name: path.read_bytes() for path in options.files}
    if not given and options.policy_dir != Places().overrides and not Path(options.policy_dir).is_dir():
        raise ConfigError(options.policy_dir, "is no folder, expected one with override files; nothing was looked at")
    overrides = given or overrides_in(options.policy_dir)
    allowed = options.allow_loosening or _allows_loosening(options.config)
    found = faults(options.shipped, overrides, allow_loosening=allowed)
    if options.json:
        print(json.dumps({"faults": found}))
    elif found:
        print("\n".join(map(printable, found)))
    else:
        print(f"no fault found in {' and '.join([str(options.shipped), *_counted(overrides)])}")
    return EXIT_FOUND if found else EXIT_WELL


def _counted(overrides: Mapping[str, bytes]) -> list[str]:
    return [f"{len(overrides)} override{'s' if len(overrides) > 1 else ''}"] if overrides else []


def _allows_loosening(config: str) -> bool:
    """What the configuration says; one that can't be used allows nothing."""
    from supervisor.config import load
    from supervisor.options import ALLOW_LOOSENING

    try:
        return load(config).config[ALLOW_LOOSENING]
    except (ConfigError, OSError):
        return False
