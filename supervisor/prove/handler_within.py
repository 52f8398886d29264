# SPDX-License-Identifier: Apache-2.0
"""Is what `prove` has run in the place of a vendor's program: makes the attempts that lie in its folder, one by one.

A program by itself (`python -I -m supervisor.prove.handler_within FOLDER NAME`), started as any handler's command is.
"""

import os
import sys

import msgspec

from supervisor.prove.handler_attempts import Attempt, make

ATTEMPTS = "attempts.json"


def main(arguments: list[str]) -> int:
    """Leave what came of them in the folder, under that name."""
    folder, name = arguments
    with open(f"{folder}/{ATTEMPTS}", "rb") as file:
        attempts = msgspec.json.decode(file.read(), type=list[Attempt])
    # Opened before: one of them moves the folder.
    with open(f"{folder}/{name}", "xb") as results:
        results.write(msgspec.json.encode([make(attempt, os.environ) for attempt in attempts]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
