# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor audit`: every live process and file of the agent against what is written."""

import argparse
import os
import sys

EXIT_WELL, EXIT_FINDINGS, EXIT_NOT_ALLOWED = 0, 1, 4
EPILOG = """\
It does not ask the agent: what it shows is what the kernel tells root, of every thread. With --deep each thread is
stopped for some milliseconds, to read its system-call filters and to ask it what only it can tell.

exit status: 0 all is as written; 1 something is not, or this kernel has no mechanism for something that is written
(--accept-absent lets the latter pass); 2 wrong usage; 3 the agent is not running; 4 not root.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--json", action="store_true", help="one JSON object (docs/audit.schema.json) instead of text")
    parser.add_argument("--deep", action="store_true", help="stop threads shortly and look inside")
    parser.add_argument(
        "--accept-absent", action="store_true", help="what this kernel has no mechanism for does not count as a finding"
    )
    parser.set_defaults(carry_out=carry_out)


def carry_out(options: argparse.Namespace) -> int:
    """Look, and print it. FileNotFoundError when no agent is running."""
    if os.geteuid() != 0:
        unseen = "namespaces, roots, mounts, descriptors, environments, other users' files"
        print(f"agent-supervisor: audit has to be run as root; without it {unseen} can't be seen", file=sys.stderr)
        return EXIT_NOT_ALLOWED
    # Only now: the other commands do without all of this.
    import msgspec

    from supervisor.audit.survey import survey
    from supervisor.audit.text import lines
    from supervisor.layout import Layout

    report = survey(Layout(), deep=options.deep)
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        print("\n".join(lines(report)))
    wrong = report.count("red") + (0 if options.accept_absent else report.count("absent"))
    return EXIT_FINDINGS if wrong else EXIT_WELL
