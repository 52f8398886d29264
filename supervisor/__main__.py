# SPDX-License-Identifier: Apache-2.0
"""Owns the entry of `agent-supervisor`. It reads `run` by hand, so that the resident processes never load argparse."""

from supervisor import lean  # noqa: I001 - before msgspec is imported by anything below
import os
import sys
from collections.abc import Sequence

from supervisor.layout import Layout

RUN_USAGE = "usage: agent-supervisor run [--config FILE]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Be the agent, or carry out a command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"] and not {"-h", "--help"} & set(given):
        return _run(given[1:])
    from supervisor.cli.main import main as command

    lean.loaded()
    return command(given)


def _run(given: list[str]) -> int:
    match given:
        case []:
            config = Layout().config
        case ["--config", file] if file:
            config = file
        case [joined] if joined.startswith("--config=") and joined != "--config=":
            config = joined.removeprefix("--config=")
        case _:
            print(RUN_USAGE, file=sys.stderr)
            return 2
    config = os.path.abspath(config)
    os.chdir("/")
    from supervisor.spawner.main import run

    return run(config)


if __name__ == "__main__":
    sys.exit(main())
