# SPDX-License-Identifier: Apache-2.0
"""Rules about extensions and waagent's policy file on a real machine: what they refuse is not run, and the host is told
who refused it; with the rule taken away it runs."""

from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.policy_files import Places
from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import CONFIG, LIB, HandlersVm, Wish, handlers_vm
from tests.fabric.systemd_lab import UNIT
from tests.fabric.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

OVERRIDE, FILE = f"{Places().overrides}/10-site.toml", "/opt/site/policy.json"
SETTINGS = f"Policy.AllowLoosening=y\nDebug.EnableExtensionPolicy=y\nPolicy.PolicyFilePath={FILE}\n".encode()
RULES = b"""[[extensions]]
name = "microsoft.ostcextensions.*"
allowed = false
why = "Nobody gets a new password here."

[[extensions]]
name = "Test.Pinned"
denied = ["update", "uninstall"]
why = "This version was tested with ours."

[[extensions]]
name = "Test.ContainedBusy"
outbound = [{ to = "127.5.0.0/16", tcp = [443] }]
wireserver = { methods = ["POST"], paths = ["/metadata/recsvc/snapshot/dosnapshot"] }
why = "It has the host make a snapshot."

[[extensions]]
name = "Test.Asks"
wireserver = { methods = ["POST"], paths = ["/status"], port = 32526 }
why = "It has the host's plugin do something."

[[extensions]]
name = "Test.Contained*"
class = "contained"
why = "They need nothing of root's."

[[extensions]]
name = "Test.ContainedQuiet"
network = false
why = "It has nobody to talk to."
"""
REACH = b"""import errno, http.client
for host, port, target in (
    ("127.5.0.1", 443, "/"), ("127.6.0.1", 443, "/"),
    ("168.63.129.16", 80, "/metadata/recsvc/snapshot/dosnapshot"), ("168.63.129.16", 80, "/machine/plugins"),
    ("168.63.129.16", 32526, "/status"),
):
    made = http.client.HTTPConnection(host, port, timeout=9)
    try:
        made.request("POST", target, b"{}")
        print(made.getresponse().status)
    except OSError as error:
        print(errno.errorcode.get(error.errno, error))
raise SystemExit(3)
"""
LOOK = {"bin/look": b"#!/bin/sh\nreadlink /proc/self/ns/net; id -u; exec python3 bin/reach\n", "bin/reach": REACH}
BUSY, ASKS = "Test.ContainedBusy", "Test.Asks"
VMACCESS, PINNED, OTHER = "Microsoft.OSTCExtensions.VMAccessForLinux", "Test.Pinned", "Test.Other"
SERVICE, QUOTA = "vendor.service", "CPUQuotaPerSecUSec"
UNIT_FILE = b"[Service]\nExecStart=/bin/true\n"
LIMITED = {"name": "vendor", "cpuQuotaPercentage": 25}
LIMITING = Package(OTHER, manifest={"resourceLimits": {"services": [LIMITED, {"name": "absent"}]}})


@pytest.fixture(scope="module")
def vm() -> Iterator[HandlersVm]:
    with handlers_vm(
        CONFIG + SETTINGS,
        image={OVERRIDE: RULES, f"/etc/systemd/system/{SERVICE}": UNIT_FILE},
    ) as made:
        yield made


def carry_out(vm: HandlersVm, *wishes: Wish) -> None:
    assert vm.until_ended(vm.publish(*wishes)) == ("Success", 0)


def told(vm: HandlersVm, handler: str) -> tuple[str, int, str]:
    """What the host knows of it: status, code, text."""
    found: Any = vm.handler_status(handler)
    return found["status"], found["code"], found["formattedMessage"]["message"]


def looking(name: str) -> Wish:
    """A handler that tells what it reaches, and fails: so its output is told."""
    return Wish(Package(name, commands={"install": "", "enable": "bin/look"}, files=LOOK))


def looked(vm: HandlersVm, name: str) -> list[str]:
    """Its network, its account, and what came of each attempt."""
    return told(vm, name)[2].partition("[stdout]")[2].split()[:7]


def replace_file(vm: HandlersVm, content: bytes) -> None:
    """As editors do: a new file in the place of the old one."""
    vm.lab.output("mkdir", "-p", FILE.rpartition("/")[0])
    vm.lab.write(f"{FILE}.new", content)
    vm.lab.output("mv", f"{FILE}.new", FILE)


def test_what_a_rule_refuses_is_not_run_and_the_host_is_told_by_which(vm: HandlersVm) -> None:
    carry_out(vm, Wish(Package(VMACCESS)), Wish(Package(PINNED)))
    assert vm.verbs(VMACCESS) == []
    assert vm.verbs(PINNED) == ["install 1.0.0 0", "enable 1.0.0 0"]
    why = (
        f'enable of {VMACCESS} 1.0.0 is not allowed: the rule "microsoft.ostcextensions.*" in policy.d/10-site.toml '
        "has allowed = false (Nobody gets a new password here.)"
    )
    assert told(vm, VMACCESS) == ("NotReady", 1009, why)
    refused = vm.settings_status(VMACCESS)
    assert (refused["status"], refused["code"], refused["formattedMessage"]["message"]) == ("error", 1009, why)
    shown = " ".join(vm.command("policy", "show").split())
    assert "microsoft.ostcextensions.*: not allowed (10-site.toml). Nobody gets a new password here." in shown


def test_an_operation_that_is_denied_is_not_begun(vm: HandlersVm) -> None:
    before = vm.verbs(PINNED)
    carry_out(vm, Wish(Package(PINNED, "2.0.0")))
    status, code, text = told(vm, PINNED)
    assert (status, code) == ("NotReady", 1009)
    assert text.startswith(
        'update of Test.Pinned 2.0.0 is not allowed: the rule "Test.Pinned" in policy.d/10-site.toml'
    )
    carry_out(vm, Wish(Package(PINNED), "uninstall"))
    assert told(vm, PINNED)[1] == 1010
    assert vm.verbs(PINNED) == before
    assert vm.lab.path(f"{LIB}/{PINNED}-1.0.0/HandlerManifest.json").exists()


def test_a_contained_handler_has_a_network_unless_a_rule_takes_it_away(vm: HandlersVm) -> None:
    names = ("Test.ContainedLoud", "Test.ContainedQuiet", BUSY, "Test.Root", ASKS)
    until("the grants", lambda: all(f"firewall grant: {name} may POST" in vm.log() for name in (BUSY, ASKS)))
    carry_out(vm, *map(looking, names))
    outputs = {name: looked(vm, name) for name in names}
    (loud, own_uid), (quiet, other_uid) = (outputs[name][:2] for name in names[:2])
    # An address that is listed, one that is not, the WireServer: what is granted, and what is not.
    assert outputs["Test.ContainedLoud"][2:] == ["ECONNREFUSED"] * 5
    assert outputs["Test.ContainedQuiet"][2:] == ["ECONNREFUSED"] * 2 + ["ENETUNREACH"] * 3
    assert outputs[BUSY][2:] == ["ECONNREFUSED", "EPERM", "200", "403", "ECONNREFUSED"]
    assert outputs["Test.Root"][2:] == ["ECONNREFUSED"] * 5
    # The plugin is asked, and wants more of such a request.
    assert outputs[ASKS][2:] == [*["ECONNREFUSED"] * 4, "400"]
    assert loud == vm.lab.output("readlink", "/proc/self/ns/net").strip()
    assert quiet.startswith("net:[")
    assert quiet != loud
    # Neither is root, nor the other one.
    assert len({"0", own_uid, other_uid}) == 3


def test_waagents_file_counts_as_it_is_now_though_the_supervisor_can_not_open_it(vm: HandlersVm) -> None:
    listed = b'{"policyVersion": "0.1.0", "extensionPolicies": {"allowListedExtensionsOnly": true, "extensions": {%s}}}'
    replace_file(vm, listed % b'"test.PINNED": {}')
    carry_out(vm, Wish(LIMITING), Wish(Package(PINNED)))
    assert vm.verbs(OTHER) == []
    assert told(vm, PINNED)[0] == "Ready"
    status, code, text = told(vm, OTHER)
    assert (status, code) == ("NotReady", 1009)
    assert f"{FILE} has extensionPolicies.allowListedExtensionsOnly = true" in text
    replace_file(vm, listed % b'"Test.Other": {"signatureRequired": true}, "test.PINNED": {}')
    carry_out(vm, Wish(LIMITING), Wish(Package(PINNED)))
    assert "Test.Other 1.0.0 has to be signed" in told(vm, OTHER)[2]
    assert vm.verbs(OTHER) == []
    kept = vm.lab.output("sh", "-c", f"cat {LIB}/history/*/waagent_policy.json")
    assert "signatureRequired" in kept
    replace_file(vm, listed % b'"Test.Other": {}, "test.PINNED": {}')
    carry_out(vm, Wish(LIMITING), Wish(Package(PINNED)))
    assert vm.verbs(OTHER) == ["install 1.0.0 0", "enable 1.0.0 0"]
    assert vm.lab.show(SERVICE, QUOTA, "CPUAccounting") == {QUOTA: "250ms", "CPUAccounting": "yes"}
    replace_file(vm, b'{"policyVersion": "9.0.0"}')
    carry_out(vm, Wish(LIMITING, "uninstall"), Wish(Package(PINNED)))
    status, code, text = told(vm, OTHER)
    assert (status, code) == ("NotReady", 1010)
    assert f"{FILE} can't be used, and until it can nothing is carried out: policyVersion" in text
    assert vm.verbs(OTHER) == ["install 1.0.0 0", "enable 1.0.0 0"]
    vm.lab.output("rm", FILE)
    carry_out(vm, Wish(LIMITING, "uninstall"), Wish(Package(PINNED)))
    assert vm.verbs(OTHER)[2:] == ["disable 1.0.0 0", "uninstall 1.0.0 0"]
    assert vm.lab.show(SERVICE, QUOTA) == {QUOTA: "infinity"}


def test_with_the_rules_taken_away_what_they_refused_is_run(vm: HandlersVm) -> None:
    vm.lab.output("rm", OVERRIDE)
    assert vm.lab.systemctl("restart", UNIT).returncode == 0
    until("the agent answers", vm.ps)
    carry_out(vm, Wish(Package(VMACCESS)), Wish(Package(PINNED, "2.0.0")), looking(BUSY))
    assert looked(vm, BUSY)[1:] == ["0", *["ECONNREFUSED"] * 5]
    assert vm.verbs(VMACCESS) == ["install 1.0.0 0", "enable 1.0.0 0"]
    until("Ready", lambda: told(vm, VMACCESS)[:2] == ("Ready", 0))
    assert "update 2.0.0 0" in vm.verbs(PINNED)
