# SPDX-License-Identifier: Apache-2.0
"""/etc/waagent.conf absent, empty, no text: one clear sentence and an end; with wrong values: named, and a default."""

from base64 import b64encode

import pytest

from tests.fabric.scene import image_files
from tests.fabric.systemd_lab import UNIT, SystemdLab
from tests.fabric.vm import QUICK, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

EXIT_CONFIG = 78

UNUSABLE = {
    "empty": (b"", "is empty"),
    "zero bytes": (b"\0" * 4096, "is not text: there is a zero byte in line 1"),
    "binary": (b"Logs.Verbose=n\n\x80\xff\xfe\n", "is not UTF-8 text: byte 0x80 in line 2"),
    "UTF-16": ("\ufeffLogs.Verbose=y\n".encode("utf-16-le"), "byte order mark"),
    "a megabyte too long": (b"# \n" * 500_000, "is larger than"),
}
WRONG = b"""Provisioning.DecodeCustomData=maybe
Provisioning.PasswordCryptSaltLength=many
OS.SshDir=etc/ssh
Extensions.GoalStatePeriod=0
Provisioning.PasswordCryptId=7
Surprise.Option=y
"""
EXPECTED = (
    "line 1: Provisioning.DecodeCustomData is 'maybe', not y or n; taken: the default, n",
    "line 2: Provisioning.PasswordCryptSaltLength is 'many', not a whole number; taken: the default, 10",
    "line 3: OS.SshDir is 'etc/ssh', not an absolute path; taken: the default, /etc/ssh",
    "line 4: Extensions.GoalStatePeriod is '0', not between 1 and",
    "line 5: Provisioning.PasswordCryptId is '7', not one of 1, 2a, 5, 6; taken: the default, 6",
    "line 6: not options of this agent: 'Surprise.Option'",
)


def expect_one_sentence(log: str, sentence: str) -> None:
    told = [line for line in log.splitlines() if "/etc/waagent.conf" in line]
    assert len(told) == 1, log
    assert sentence in told[0]
    assert "starting it again" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_file_that_is_no_text_ends_the_agent_with_one_sentence(case: str) -> None:
    content, sentence = UNUSABLE[case]
    with booted(config=content, host=False) as vm:
        vm.boot(None)
        assert vm.agent.wait(timeout=10) == EXIT_CONFIG
        expect_one_sentence(vm.scene.log(), sentence)
        assert vm.left_over() == []


@pytest.mark.parametrize("other", ["rm /etc/waagent.conf", "rm /etc/waagent.conf; mkfifo /etc/waagent.conf"])
def test_no_file_ends_the_agent_with_one_sentence(other: str) -> None:
    with booted(host=False) as vm:
        vm.lab.output("sh", "-ec", other)
        vm.boot(None)
        assert vm.agent.wait(timeout=10) == EXIT_CONFIG
        expect_one_sentence(vm.scene.log(), "regular file" if "mkfifo" in other else "there is no such file")


def test_wrong_values_are_named_and_the_defaults_taken() -> None:
    with booted(config=WRONG + QUICK.replace(b"Provisioning.DecodeCustomData=y\n", b"")) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        log = vm.scene.log()
        assert [text for text in EXPECTED if log.count(text) != 1] == []
        assert vm.lab.read("/var/lib/waagent/CustomData") == b64encode(vm.wanted.custom_data or b"")


def test_systemd_does_not_start_it_again_and_again() -> None:
    files = image_files()
    del files["/etc/waagent.conf"]
    with SystemdLab(files) as lab:
        lab.systemctl("start", UNIT)
        until("the unit has failed", lambda: lab.show(UNIT, "ActiveState")["ActiveState"] == "failed")
        shown = lab.show(UNIT, "NRestarts", "ExecMainStatus", "Result")
        assert shown == {"NRestarts": "0", "ExecMainStatus": str(EXIT_CONFIG), "Result": "exit-code"}
        assert lab.journal(UNIT).count("there is no such file") == 1
