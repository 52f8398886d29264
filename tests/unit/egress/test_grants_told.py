# SPDX-License-Identifier: Apache-2.0
"""What is said of grants: of each handler once, however many take turns."""

from typing import TYPE_CHECKING, cast

from supervisor.clock import SystemClock
from supervisor.egress.forwarding import Grants
from supervisor.loop import Loop
from supervisor.wire.host import WireServer

if TYPE_CHECKING:
    from supervisor.audit_log_entry import Entry
    from supervisor.fleet import Fleet


def test_two_that_fail_in_turn_are_told_once_each() -> None:
    said: list[str] = []
    entries: list[Entry] = []
    loop = Loop(SystemClock())
    host = WireServer(loop, "127.0.0.1")
    grants = Grants(loop, cast("Fleet", None), lambda: host, lambda *what: said.append(what[2]), entries.append, "/")
    for _ in range(3):
        grants._note("One", "failed", "not open")
        grants._note("Two", "failed", "not open")
    grants._note("One", "done", "One may GET /a")
    grants._note("One", "failed", "not open")
    assert said == ["grant: One: not open", "grant: Two: not open", "grant: One may GET /a", "grant: One: not open"]
    assert [f"grant: {entry.detail}" for entry in entries] == said
