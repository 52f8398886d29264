# SPDX-License-Identifier: Apache-2.0
"""Owns the list of what provisioning works with, filled in by the composition root. Runs in the supervisor, as data."""

from collections.abc import Callable, Sequence

import msgspec

from ipc.messages import ExtensionRule
from supervisor.audit_log_entry import Audit, unrecorded
from supervisor.config import Config
from supervisor.contact import Contact
from supervisor.credentials import Credentials
from supervisor.dispatch import Table
from supervisor.fleet import Fleet
from supervisor.journal import Journal
from supervisor.layout import Layout
from supervisor.loop import Loop
from supervisor.medium import Finder
from supervisor.standing import Standing

Say = Callable[[str, str, str], None]
Forget = Callable[[], None]


class Parts(msgspec.Struct, frozen=True):
    """What provisioning works with; one of each in the process. `rules` are the policy's, about vendors' extensions."""

    loop: Loop
    fleet: Fleet
    table: Table
    contact: Contact
    credentials: Credentials
    journal: Journal
    finder: Finder
    config: Config
    layout: Layout
    say: Say
    keep_secret: Callable[[str], Forget]
    clean: Callable[[str], str]
    show: Callable[[Sequence[str]], None]
    standing: Standing
    audit: Audit = unrecorded
    rules: tuple[ExtensionRule, ...] = ()
