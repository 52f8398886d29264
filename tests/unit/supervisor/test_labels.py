# SPDX-License-Identifier: Apache-2.0
"""Which paths an order may have written, also one whose committer was killed before it could say so."""

from pathlib import Path

import pytest

from ipc.messages import (
    CommitHostName,
    CommitKeys,
    CommitPassword,
    CommitPaths,
    CommitRootLock,
    CommitSshd,
    CommitSshdReload,
    CommitSudo,
    InstallHostKeys,
    Message,
)
from ipc.secret import Secret
from policy.load import own_folder
from policy.reading import read_policy
from policy.sources import read_sources
from supervisor.labels import ACCOUNT_FILES, LABELLED, can_be_labelled, concerned

PATHS = CommitPaths("/etc/own/sudoers.d", "/etc/own/ssh", "/etc/own/shadow")


@pytest.mark.parametrize(
    ("order", "paths"),
    [
        (CommitHostName("vm"), ("/etc/hostname",)),
        (CommitPassword("me", Secret("$6$")), ACCOUNT_FILES),
        (CommitSudo("me", True, PATHS), ("/etc/own/sudoers", "/etc/own/sudoers.d", "/etc/own/sudoers.d/waagent")),
        (
            CommitSshd(True, 1, PATHS),
            ("/etc/own/ssh/sshd_config", "/etc/own/ssh/sshd_config.d/50-agent-supervisor.conf"),
        ),
        (
            CommitKeys(1000, 1000, "/home/me", ".config/ssh/keys", ("ssh-rsa AAAA",)),
            ("/home/me/.config", "/home/me/.config/ssh", "/home/me/.config/ssh/keys"),
        ),
        (CommitRootLock(PATHS), ("/etc/own/shadow",)),
        (CommitSshdReload(), ()),
    ],
)
def test_an_order_concerns_the_paths_that_it_names(order: Message, paths: tuple[str, ...]) -> None:
    assert concerned(order) == paths


def test_what_is_labelled_is_what_its_policy_lets_be_labelled() -> None:
    profiles, _ = read_policy(read_sources(own_folder()))
    (program,) = [profile for profile in profiles if profile.kind == "labels-programs"]
    assert {grant.path for grant in program.paths if grant.access == "remove"} == set(LABELLED)
    assert can_be_labelled("/home/me")
    assert not any(map(can_be_labelled, ("", "/home", "/homes/me", "/usr/me")))
    # A folder is granted so that labels may be set in it, and for nothing else.
    assert {"unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2"} <= set(program.locked_calls.without)


def test_host_keys_are_those_that_are_there(tmp_path: Path) -> None:
    order = InstallHostKeys("/etc/ssh/.staging", "/etc/ssh")
    assert concerned(order, str(tmp_path)) == ()
    (tmp_path / "etc/ssh").mkdir(parents=True)
    for name in ("ssh_host_rsa_key", "ssh_host_rsa_key.pub", "sshd_config", "moduli"):
        (tmp_path / "etc/ssh" / name).touch()
    assert concerned(order, str(tmp_path)) == ("/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_rsa_key.pub")
