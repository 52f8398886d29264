# SPDX-License-Identifier: Apache-2.0
"""A VM's certificates over its life: they come with goal states, are kept, told, renewed, and never lost for nothing.

One boot, whose acts follow one another: each finds what the ones before it left.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from supervisor.certificates_shown import Shown
from supervisor.cli.client import ask
from supervisor.layout import Layout
from supervisor.verbs import CERTIFICATES
from tests.fabric.scene import AGENT, kill_process
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

CONFIG = QUICK + b"Extensions.GoalStatePeriod=1\n"
STORE = "/var/lib/agent-supervisor/credentials/certificates"
HANDLER = {"name": "Vendor.Handler", "settings": [{"protected": {"secret": "x"}}]}


@pytest.fixture(scope="module")
def vm() -> Iterator[Vm]:
    with booted(config=CONFIG) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.settled()
        yield vm


def shown(vm: Vm) -> Shown:
    try:
        answer = ask(str(vm.lab.path(Layout().control_socket)), CERTIFICATES)
    except OSError:
        return Shown()
    return msgspec.json.decode(answer.data, type=Shown)


def names(vm: Vm) -> list[str]:
    return [row.thumbprint for row in shown(vm).certificates]


def files(vm: Vm) -> dict[str, int]:
    folder = vm.lab.path(STORE)
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in Path(folder).iterdir()}


def thumbprints(vm: Vm) -> list[str]:
    """What the host has for this VM."""
    told = vm.scene.steer("last")["thumbprints"]
    assert isinstance(told, list)
    return told


def asked_with(vm: Vm, skip: int = 0) -> list[str]:
    """The ciphers that certificates were asked with, but for the first `skip` requests."""
    records = [one for one in vm.scene.records() if one["route"] == "certificates"]
    return [str(dict(one["headers"])["x-ms-cipher-name"]) for one in records][skip:]  # type: ignore[call-overload]


def restart(vm: Vm, settings: bytes) -> None:
    """The agent ends, and begins with these settings beside the others."""
    vm.scene.stop_agent(vm.agent)
    vm.lab.path("/etc/waagent.conf").write_bytes(CONFIG + settings)
    vm.boot(None)


def test_they_come_with_a_goal_state_and_are_kept_for_root_alone(vm: Vm) -> None:
    vm.scene.publish("certificates=rsa,ec,keyless", plugins=[HANDLER])
    rsa, ec, keyless = thumbprints(vm)
    until("the certificates", lambda: set(names(vm)) == {rsa, ec, keyless})
    assert files(vm) == dict.fromkeys(
        ("list.json", f"{rsa}.key", f"{rsa}.crt", f"{ec}.key", f"{ec}.crt", f"{keyless}.crt"), 0o600
    )
    assert stat.S_IMODE(os.stat(vm.lab.path(STORE)).st_mode) == 0o700  # noqa: PTH116
    until("its handler", lambda: any(row.used_by for row in shown(vm).certificates))
    rows = {row.thumbprint: row for row in shown(vm).certificates}
    assert [rows[name].private_key for name in (rsa, ec, keyless)] == [True, True, False]
    assert [rows[name].used_by for name in (rsa, ec, keyless)] == [("Vendor.Handler 1.0.0",), (), ()]
    assert set(asked_with(vm)) == {"AES128_CBC"}


def test_the_command_tells_them_and_no_key(vm: Vm) -> None:
    rsa, ec, keyless = thumbprints(vm)
    text = vm.lab.output(str(AGENT), "certificates")
    assert [line for line in text.splitlines() if line[:1] != " "] == [rsa, ec, keyless]
    assert "  used by: Vendor.Handler 1.0.0\n" in text
    assert "  key: EC nistp256, with its private key\n" in text
    assert "  key: RSA 2048, without its private key\n" in text
    whole = vm.lab.output(str(AGENT), "certificates", "--json")
    assert "PRIVATE" not in whole
    assert {row["thumbprint"] for row in msgspec.json.decode(whole)["certificates"]} == {rsa, ec, keyless}


def test_a_supervisor_that_dies_loses_none_whatever_the_host_says(vm: Vm) -> None:
    before = names(vm)
    vm.scene.steer("fault certificates:status=404")
    kill_process(vm.residents()[1])
    until("the next one has them", lambda: names(vm) == before)
    until("it has asked", lambda: shown(vm).problems, 40)
    assert names(vm) == before
    vm.scene.steer("clear")


def test_what_can_not_be_opened_is_told_once_and_takes_nothing_away(vm: Vm) -> None:
    before = names(vm)
    vm.scene.steer("envelopes recipient=other")
    vm.scene.publish()
    until("the problem", lambda: shown(vm).problems[:1] and "transport key" in shown(vm).problems[0], 40)
    asked_for = [problem.partition(": ")[0] for problem in shown(vm).problems]
    assert asked_for == ["asked for with AES128_CBC", "asked for with DES_EDE3_CBC"]
    assert "certificates: 2 problems, see agent-supervisor certificates" in vm.ps_command()
    assert names(vm) == before
    assert vm.scene.log().count("with AES128_CBC: envelope: can't be opened with this VM's transport key") == 1
    vm.scene.publish()
    seen = len(asked_with(vm))
    until("it has asked again", lambda: len(asked_with(vm)) >= seen + 2)
    assert vm.scene.log().count("with AES128_CBC: envelope: can't be opened with this VM's transport key") == 1
    vm.scene.steer("envelopes recipient=key")


def test_other_certificates_take_their_place_but_of_those_that_are_named(vm: Vm) -> None:
    """The goal state in force is for the old one until the next is: the pair goes with the second."""
    old = thumbprints(vm)
    vm.scene.publish("certificates=rsa", plugins=[HANDLER])
    (new,) = thumbprints(vm)
    until("the new one", lambda: new in names(vm))
    assert set(names(vm)) <= {new, *old[:1]}
    vm.scene.publish()
    until("the new one alone", lambda: names(vm) == [new])
    assert sorted(files(vm)) == sorted([f"{new}.crt", f"{new}.key", "list.json"])


def test_3des_is_asked_for_where_aes_comes_to_nothing(vm: Vm) -> None:
    vm.scene.steer("envelopes only=DES_EDE3_CBC")
    seen = len(asked_with(vm))
    vm.scene.publish("certificates=ec")
    (new,) = thumbprints(vm)
    until("the new one", lambda: new in names(vm), 40)
    until("no problem", lambda: shown(vm).problems == ())
    assert asked_with(vm, seen)[-1] == "DES_EDE3_CBC"


def test_a_host_that_says_nothing_to_aes_is_asked_for_nothing_less(vm: Vm) -> None:
    vm.scene.steer("envelopes only=any")
    vm.scene.steer("fault certificates:status=410")
    seen, before = len(asked_with(vm)), names(vm)
    vm.scene.publish()
    until("the problem", lambda: shown(vm).problems, 40)
    assert (set(asked_with(vm, seen)), names(vm)) == ({"AES128_CBC"}, before)
    vm.scene.steer("clear")


def test_on_a_fips_host_it_never_is(vm: Vm) -> None:
    """Not even where no envelope can be opened."""
    before, seen = names(vm), len(asked_with(vm))
    restart(vm, b"OS.EnableFIPS=y\nOS.OpensslPath=/opt/openssl\n")
    until("the problem", lambda: shown(vm).problems, 40)
    told = "asked for with AES128_CBC: OpenSSL: program /opt/openssl does not start: No such file or directory"
    assert (names(vm), shown(vm).fips, shown(vm).problems) == (before, True, (told,))
    assert set(asked_with(vm, seen)) == {"AES128_CBC"}
    restart(vm, b"OS.EnableFIPS=y\n")
    vm.scene.publish("rotate")
    (new,) = thumbprints(vm)
    until("the new one", lambda: new in names(vm), 40)


def test_a_vm_without_certificates_has_none(vm: Vm) -> None:
    vm.scene.publish("certificates=", plugins=[])
    until("the one that the last goal state named alone", lambda: len(names(vm)) <= 1)
    vm.scene.publish()
    until("none", lambda: names(vm) == [])
    assert "certificates: none" in vm.lab.output(str(AGENT), "certificates")
    assert sorted(files(vm)) == ["list.json"]
