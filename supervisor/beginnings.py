# SPDX-License-Identifier: Apache-2.0
"""Owns what the supervisor looks at, makes and says before it begins: its policy, its journal, this VM, strangers.

Runs in the supervisor, at its start.
"""

import os
from collections.abc import Callable

from ipc.errors import StateError
from policy.load import given
from policy.load import load as load_policy
from policy.profile import WORKER_UIDS, CompiledPolicy
from supervisor import facts, vm_identity
from supervisor.journal import Journal, UnusableJournal
from supervisor.layout import Layout
from supervisor.status import in_force


def known_vm(say: Callable[[str, str, str], None]) -> vm_identity.VmId:
    """Which VM this is, and in which boot."""
    vm_id = vm_identity.vm_id()
    if vm_id.problem:
        say("warning", "provisioning", f"{vm_id.problem}: a disk moved to another VM can't be told")
    return vm_id._replace(boot=vm_identity.boot_id())


def policy_in_force(sealed: int) -> CompiledPolicy:
    """That in the sealed file which the spawner handed over, or the shipped one if it handed none (-1)."""
    if sealed < 0:
        return load_policy()
    try:
        return given(sealed)
    finally:
        os.close(sealed)


def tell_of_policy(policy: CompiledPolicy, say: Callable[[str, str, str], None]) -> None:
    """Which one is in force, and what is odd about it."""
    say("warning" if policy.origin.loosened else "info", "policy", in_force(policy).sentence)
    for note in policy.origin.notes:
        say("warning", "policy", note)


def look_for_strangers(say: Callable[[str, str, str], None]) -> None:
    """Whoever has a worker's uid may do to that worker what it may do to itself."""
    try:
        strangers = facts.accounts_within(WORKER_UIDS)
    except OSError as error:
        say("error", "supervisor", f"{facts.ACCOUNTS} can't be read: {error.strerror}")
        return
    if strangers:
        named, uids = ", ".join(strangers), f"{WORKER_UIDS[0]} to {WORKER_UIDS[-1]}"
        danger = f"the uids {uids} are this agent's workers', which are not safe from these accounts: give them others"
        say("error", "supervisor", f"{facts.ACCOUNTS} has {named}: {danger}")


def open_journal(layout: Layout, say: Callable[[str, str, str], None], problem: str) -> Journal:
    """The journal; one that is damaged was moved aside, and then an empty one begins. `problem` is why there is no
    folder for it, if there is none.

    Where none can be had (a full disk, a read-only one) this process lives on: the host and `ps` are told."""
    path = layout.journal
    try:
        if problem:
            raise StateError(problem)
        journal = _journal_at(path, say)
    except StateError as error:
        why = f"nothing is provisioned without a journal, and it can't be used: {error}"
        say("error", "journal", why)
        return UnusableJournal(path, why)
    for note in journal.notes:
        say("warning", "journal", note)
    return journal


def _journal_at(path: str, say: Callable[[str, str, str], None]) -> Journal:
    try:
        return Journal(path)
    except StateError as damage:
        say("error", "journal", str(damage))
        return Journal(path)
