# SPDX-License-Identifier: Apache-2.0
"""`policy show --extension`: what comes of all rules for one handler, and in which line of which file each stands."""

import json
from pathlib import Path
from typing import Any

import pytest

from policy.rule_lines import RuleLines, rule_lines
from supervisor.cli.json_lines import key_lines
from supervisor.cli.main import main

ALL = b"""# what is said of all
[[extensions]]
name = "*"
signature_required = true
limits = { tasks = 512, memory_mib = 900 }
why = \"\"\"All of them:
[[extensions]] is written in here, too.
\"\"\"
"""
OWN = b"""[[wireserver]]
handler = "Contoso.Other"
cgroup = "other.slice"
methods = ["GET"]
paths = ["/machine/"]
why = "It is written by hand."

[[extensions]]
name = "contoso.*"
class = "contained"
denied = ["uninstall"]
why = "They need nothing of root's."

[[extensions]]   # one of them
name = "Contoso.Disk"
outbound = [
  { to = "10.1.0.0/16", tcp = [443] },
]
wireserver = { methods = ["POST"], paths = ["/metadata/"] }
why = "It talks to its own server."
[extensions.limits]
memory_mib = 300
"""
POLICY = """{"policyVersion": "0.1.0",
 "extensionPolicies": {
  "allowListedExtensionsOnly": true,
  "extensions": {
   "Contoso.Other": {"signatureRequired": true},
   "CONTOSO.disk": {}
  }}}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with overrides, a configuration and waagent's policy file."""
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d/10-all.toml").write_bytes(ALL)
    (tmp_path / "policy.d/20-own.toml").write_bytes(OWN)
    (tmp_path / "waagent.json").write_text(POLICY)
    asked = f"Policy.AllowLoosening=y\nDebug.EnableExtensionPolicy=y\nPolicy.PolicyFilePath={tmp_path}/waagent.json\n"
    (tmp_path / "waagent.conf").write_text(asked)
    return tmp_path


def command(machine: Path, handler: str, *more: str) -> int:
    folders = ("--policy-dir", str(machine / "policy.d"), "--config", str(machine / "waagent.conf"))
    return main(["policy", "show", "--extension", handler, *folders, *more])


def told(machine: Path, capsys: pytest.CaptureFixture[str], handler: str, *more: str) -> Any:
    assert command(machine, handler, "--json", *more) == 0
    return json.loads(capsys.readouterr().out)


def test_each_part_of_it_is_traced_to_its_line(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(machine, capsys, "Contoso.Disk")
    lines = {key: f"{at['file']}:{at['line']}" for key, at in found["sources"].items()}
    own, every = "policy.d/20-own.toml", "policy.d/10-all.toml"
    assert lines == {
        "class": f"{own}:10", "denied": f"{own}:11", "outbound": f"{own}:16", "wireserver": f"{own}:19",
        "limits": f"{own}:21", "limits.memory_mib": f"{own}:21", "limits.tasks": f"{every}:5",
        "signature_required": f"{every}:4",
    }  # fmt: skip
    assert [(rule["name"], rule["at"]["line"]) for rule in found["rules"]] == [
        ("Contoso.Disk", 14), ("contoso.*", 8), ("*", 2),
    ]  # fmt: skip
    assert (found["handler_class"], found["limits"]["memory_mib"], found["limits"]["tasks"]) == ("contained", 300, 512)
    assert found["outbound"] == [{"to": "10.1.0.0/16", "tcp": [443], "udp": []}]
    assert found["wireserver"][0]["cgroup"].endswith("azure-vmextensions-Contoso.Disk.slice")
    allowed = {each["verb"]: each["allowed"] for each in found["operations"]}
    assert allowed == dict.fromkeys(("install", "enable", "update", "disable"), True) | {"uninstall": False}
    assert found["waagent"]["lines"] == {
        "extensionPolicies.allowListedExtensionsOnly": 3, "extensionPolicies.extensions.CONTOSO.disk": 6,
    }  # fmt: skip


def test_it_reads_as_text(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(machine, "Contoso.Other", "--version", "1.2") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "Contoso.Other 1.2 Rules that are about it, the most specific one first: contoso.* (policy.d/20-own.toml:8):",
        'not uninstall (code 1010): the rule "contoso.*" in policy.d/20-own.toml has uninstall in denied',
        "class contained (policy.d/20-own.toml:10)",
        "at most 900 MiB of memory, 512 processes and threads",
        "WireServer Contoso.Other may GET /machine/, in other.slice (policy.d/20-own.toml)",
        "extensionPolicies.extensions.Contoso.Other.signatureRequired on line 5",
    ):
        assert part in shown
    assert command(machine, "Fabrikam.New") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "operations none not install (code 1009), enable (code 1009), update (code 1009), disable" in shown
    assert "has extensionPolicies.allowListedExtensionsOnly = true" in shown
    assert "class compat (as shipped)" in shown


def test_what_can_not_be_shown_is_said(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machine / "waagent.json").write_text('{"policyVersion": "9.0"}')
    found = told(machine, capsys, "Contoso.Disk")
    assert found["waagent"]["problem"].startswith("policyVersion: is newer than 0.1.0")
    assert not any(each["allowed"] for each in found["operations"])
    for words, said in (
        (("Custom",), "Custom has no publisher: expected PUBLISHER.TYPE"),
        (("A..B",), "is no handler's name"),
        (("A.B", "--version", "one"), "one is no version"),
        (("A.B", "parser"), "expected one of the two, WORKER or --extension NAME"),
    ):
        assert command(machine, *words) == 2
        assert said in capsys.readouterr().err
    (machine / "waagent.conf").write_text("Policy.AllowLoosening=y\nExtensions.Enabled=n\n")
    assert "Extensions.Enabled is n" in told(machine, capsys, "Contoso.Disk")["operations"][0]["why"]
    with pytest.raises(SystemExit):
        main(["policy", "show", "--extensoin", "A.B"])
    assert "unrecognized arguments: --extensoin" in capsys.readouterr().err


def test_what_no_start_would_take_is_not_shown(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = machine / "waagent.conf"
    settings.write_text("Debug.EnableExtensionPolicy=n\n")
    for more in ((), ("--json",)):
        assert command(machine, "Contoso.Disk", *more) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(
            "agent-supervisor: policy.d/20-own.toml: an agent would not start with this: it loosens, "
            f"which takes Policy.AllowLoosening=y in {settings}: wireserver: Contoso.Other may GET /machine/"
        )


def test_lines_are_known_or_said_to_be_unknown() -> None:
    text = "[[ extensions ]]\nname = 'a'\nwhy = '''\n[[extensions]]\nname = '''\n[parser]\nname = 1\n"
    assert rule_lines(text, 1) == [RuleLines(1, {"name": 2, "why": 3})]
    assert rule_lines("extensions = [{ name = 'a' }]\n", 1) is None
    assert key_lines('{"a": [{"b:{": 1},\n{"c": "d"}],\n"e": {"\\"": 2}}') == {
        ("a",): 1, ("a", "b:{"): 1, ("a", "c"): 2, ("e",): 3, ("e", '"'): 3,
    }  # fmt: skip
