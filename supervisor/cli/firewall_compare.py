# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of a rule with what is loaded: both as nft and iptables list them, so that form is no difference.

Runs in the process of `agent-supervisor firewall plan`, as root. The rule is loaded into a network of its own, which
nobody else is in and which ends with the comparison; the machine's is only listed.
"""

import contextlib
import difflib
import shutil
import subprocess
from collections.abc import Iterator

from ipc.messages.egress import Rule
from supervisor.cli.firewall_load import load
from supervisor.cli.firewall_loaded import Loaded, loaded
from supervisor.cli.firewall_programs import PATIENCE_S, SEARCHED, Programs


def changes(there: Loaded, planned: Loaded) -> list[str]:
    """What loading `planned` changes: lines that begin with - go, with + come; empty when nothing does."""
    lines = difflib.unified_diff(there.listing, planned.listing, lineterm="", n=1)
    return [line for line in lines if not line.startswith(("---", "+++"))]


def as_listed(rule: Rule, below: str) -> Loaded:
    """How `rule` would be listed. NotInForce when the kernel does not take it, OSError without the right to try."""
    with _own_network() as programs:
        load(programs, rule, below)
        return loaded(programs, rule.address, freely=True)


@contextlib.contextmanager
def _own_network() -> Iterator[Programs]:
    """Programs that run in a new network namespace; it is held by a process that only echoes."""
    unshare = shutil.which("unshare", path=SEARCHED)
    if unshare is None:
        raise FileNotFoundError("unshare is not installed")
    holder = subprocess.Popen(
        [unshare, "--net", "--", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={"PATH": SEARCHED},
    )  # fmt: skip
    try:
        if not _echoes(holder):
            raise PermissionError("no network of its own can be made here")
        yield Programs(("nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"))
    finally:
        holder.communicate(timeout=PATIENCE_S)


def _echoes(holder: "subprocess.Popen[bytes]") -> bool:
    """Whether it has got as far as to echo: then its namespace is there."""
    if holder.stdin is None or holder.stdout is None:
        return False
    with contextlib.suppress(BrokenPipeError):
        holder.stdin.write(b"\n")
        holder.stdin.flush()
    return holder.stdout.read(1) == b"\n"
