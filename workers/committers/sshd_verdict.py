# SPDX-License-Identifier: Apache-2.0
"""Owns asking the installed sshd what it thinks of its configuration, and which values it takes from it (`sshd -T`).

Runs in the sshd committer, as root. At a first boot sshd has not run yet: what it insists on before it looks at its
settings at all, any host key and its empty folder, is given to it here; the key is thrown away afterwards.
"""

import re
from pathlib import Path

import msgspec

from workers.committers.commit import Workplace
from workers.committers.tools import Outcome

EMPTY_FOLDER = "/run/sshd"
# Not beside its configuration: that may be the distribution's own, below /usr, where this process may not write.
KEY = "/etc/.agent-supervisor-check-key"
NO_KEYS = "no hostkeys available"
NO_FOLDER = f"Missing privilege separation directory: {EMPTY_FOLDER}"
# sshd's words about what it insists on, none of which is about a setting.
NOT_INSTALLED = re.compile(r"Privilege separation user \S+ does not exist")


class Verdict(msgspec.Struct, frozen=True):
    """`refusal` is what sshd has against its configuration, empty for nothing; `values` are by keyword in lower case.

    Both are empty where there is no sshd to ask."""

    refusal: str
    values: dict[str, str]


def ask(work: Workplace, config: Path) -> Verdict:
    """What sshd makes of the file `config` and of all that it includes."""
    if not work.tools.find("sshd"):
        return Verdict("", {})
    key = work.at(KEY)
    try:
        outcome = _run(work, config, key)
    finally:
        key.unlink(missing_ok=True)
        key.with_suffix(".pub").unlink(missing_ok=True)
    if outcome.status == 0:
        pairs = (line.partition(" ") for line in outcome.text.splitlines())
        values: dict[str, str] = {}
        for keyword, _, value in pairs:
            values.setdefault(keyword, value)
        return Verdict("", values)
    if NOT_INSTALLED.search(outcome.text):
        return Verdict("", {})
    return Verdict(outcome.output or f"status {outcome.status}", {})


def _run(work: Workplace, config: Path, key: Path) -> Outcome:
    words = ["-T", "-f", str(config)]
    outcome = work.tools.run("sshd", *words)
    if NO_KEYS in outcome.text:
        key.unlink(missing_ok=True)
        work.tools.run_well("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(key))
        words += ["-h", str(key)]
        outcome = work.tools.run("sshd", *words)
    if NO_FOLDER in outcome.text:
        # Its service makes the same folder when it starts.
        work.at(EMPTY_FOLDER).mkdir(mode=0o755, exist_ok=True)
        outcome = work.tools.run("sshd", *words)
    return outcome
