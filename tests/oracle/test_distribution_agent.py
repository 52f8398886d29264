# SPDX-License-Identifier: Apache-2.0
"""The distribution's own agent provisions against the emulated host, unmodified; what it leaves is what ours leaves."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fabric.scene import KEY
from tests.fabric.wire_book import RULES, TELEMETRY_RULES
from tests.oracle import verdict
from tests.oracle.expected import DIFFERENCES, EMULATED, NOT_EMULATED
from tests.oracle.package import NoPackage, find
from tests.oracle.run import FORBIDDEN, MEDIA, Run, Side, kinds, perform

BOTH = next(iter(MEDIA))
pytestmark = pytest.mark.timeout(150)  # the run is the first test's, and six machines on two cores that others use, too


@pytest.fixture(scope="module")
def run() -> Run:
    """One run for all tests. Where set-up could not fetch the package it fails with that reason, and never skips."""
    try:
        return perform()
    except NoPackage as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.mark.root
def test_it_is_the_distributions_own_and_not_installed(run: Run) -> None:
    assert run.package.name in {"waagent", "walinuxagent"}
    assert f"Version:{run.package.version.partition('-')[0]}" in run.theirs[BOTH].log.replace("WALinuxAgent-", "")
    listed = subprocess.run(["dpkg-query", "-L", run.package.name], capture_output=True, check=False)
    assert listed.returncode != 0


@pytest.mark.root
@pytest.mark.parametrize("medium", MEDIA)
def test_it_provisions(run: Run, medium: str) -> None:
    facts, wanted = run.theirs[medium].facts, MEDIA[medium]
    secret = wanted.password is not None
    expected = {
        "passwd: name": "azureuser",
        "passwd: home": "/home/azureuser",
        "shadow: password": "$6$, fits" if secret else "locked",
        "shadow: root's password": "*LOCK*",
        "sudoers": f"azureuser ALL=(ALL) {'ALL' if secret else 'NOPASSWD: ALL'}\n",
        "authorized_keys": f"{KEY}\n",
        "host name: now": wanted.host_name,
        "host name: file": wanted.host_name,
        "host keys": "ssh_host_ecdsa_key ssh_host_ed25519_key ssh_host_rsa_key" if secret else "ssh_host_ed25519_key",
        "host keys: the image's": "absent",
        "host keys: halves that don't fit": "none",
        "marker: is the VM's id": "True",
        "where the password stands in clear": "nowhere",
        "reports": "NotReady Provisioning Starting, Ready",
    }
    assert {name: facts[name] for name in expected} == expected
    data = wanted.custom_data
    assert facts["CustomData"] == ("absent" if data is None else data.decode())


@pytest.mark.root
@pytest.mark.parametrize("medium", MEDIA)
def test_it_takes_the_document_from_the_medium_as_it_does(run: Run, medium: str) -> None:
    """It has mounted the medium and let go of it; how it restarts the network is its distribution's."""
    calls = [call for call in run.theirs[medium].calls if call.partition(" ")[0] in {"mount", "umount", "eject"}]
    assert calls == [
        "mount ",
        "mount -o ro -t udf,iso9660,vfat /dev/sr0 /mnt/cdrom/secure",
        "umount /mnt/cdrom/secure",
        "eject /dev/sr0",
    ]


@pytest.mark.root
def test_a_failure_is_reported_in_the_same_way(run: Run) -> None:
    """An account of the system's gets no password from either agent; the reasons are each one's own."""
    for records in run.failed:
        starting, failed = verdict.heard(records)
        assert starting == ("NotReady", "Provisioning", "Starting")
        assert failed[:2] == ("NotReady", "ProvisioningFailed")
        assert FORBIDDEN.user in failed[2]


@pytest.mark.root
def test_every_request_of_it_passes_or_is_refused_as_not_emulated(run: Run) -> None:
    records = run.theirs[BOTH].records
    assert verdict.refusals(run) == []
    assert kinds(record for record in records if record["verdict"] == "accepted") == set(EMULATED)
    assert kinds(record for record in records if record["verdict"] == "refused") == set(NOT_EMULATED)


@pytest.mark.root
def test_every_rule_let_a_request_of_it_pass(run: Run) -> None:
    assert set(verdict.judged(run)) >= set(RULES | TELEMETRY_RULES)


@pytest.mark.root
def test_ours_leaves_the_same_but_for_intended_differences(run: Run) -> None:
    assert verdict.unexplained(run) == []
    assert all(len(known.why) > 20 for known in DIFFERENCES.values())


@pytest.mark.root
def test_the_judgement_would_see_it(run: Run) -> None:
    """The check itself: a fact that differs, one that no longer does, a refusal, a rule that nothing has met."""
    theirs, ours = run.theirs[BOTH], run.ours[BOTH]

    def told(side: Side, other: Side = ours) -> str:
        sides = dict.fromkeys(MEDIA, side), dict.fromkeys(MEDIA, other)
        changed = replace(run, theirs=sides[0], ours=sides[1], failed=([], []))
        return "\n".join(verdict.unexplained(changed))

    assert "sudoers (password and key)" in told(replace(theirs, facts=theirs.facts | {"sudoers": "ALL"}))
    assert "marker: mode and owner does not differ any more" in told(theirs, replace(ours, facts=theirs.facts))
    refused = [record | {"verdict": "refused", "rule": "content-type"} for record in theirs.records]
    assert "refused: POST http://168.63.129.16/machine?comp=health" in told(replace(theirs, records=refused))
    reads = [record for record in theirs.records if record["method"] == "GET"]
    assert "no request of it was held against the rule health-state" in told(replace(theirs, records=reads))
    assert "it never made the request health" in told(replace(theirs, records=reads))


def test_without_the_package_there_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(NoPackage, match="set-up has not run"):
        find(tmp_path)
    (tmp_path / "REASON").write_text("no network\n")
    with pytest.raises(NoPackage, match=r"no network; `make setup` tries again"):
        find(tmp_path)
