# SPDX-License-Identifier: Apache-2.0
"""Rules about vendors' extensions: what a file may say, which rule counts, what is a loosening, who is told."""

import json
import re
import socket
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import ConfigError
from ipc.messages import ExtensionRule, HandlerLimits, Outbound
from ipc.messages.grants import MOST_GRANTS
from policy.capability import NAMES
from policy.egress.redirect import listener
from policy.extension_rules import loosenings, told
from policy.extensions import WITHOUT, Treatment, treatment
from policy.in_force import in_force
from policy.lint_all import faults as faults_of_all
from policy.load import own_folder
from policy.material import Material
from policy.outbound import prefix
from policy.profile import CompiledPolicy
from policy.sources import read_sources
from supervisor.cli.main import main
from supervisor.cli.policy_table import table
from supervisor.compiler.ruling import rule
from supervisor.extensions.ruling import Waagent, with_host
from supervisor.extensions.ruling import rule as rule_on

SOURCES = read_sources(own_folder())
SHIPPED = Path(own_folder())
WHY = 'why = "Our machines need it so."\n'
ASKS = 'wireserver = { methods = ["GET"], paths = ["/machine/"] }'
ALLOWING = b"Policy.AllowLoosening=y\n"


def written(name: str, *keys: str, why: str = WHY) -> str:
    return "\n".join((f'[[extensions]]\nname = "{name}"', *keys, why))


def compiled(*files: str, config: bytes = b"") -> CompiledPolicy:
    overrides = {f"{number}.toml": text.encode() for number, text in enumerate(files, 10)}
    policy = rule(Material(SOURCES, overrides, b"", config, "/etc/waagent.conf"))
    # As it reaches spawner and supervisor.
    return msgspec.msgpack.decode(msgspec.msgpack.encode(policy), type=CompiledPolicy)


def of(handler: str, *files: str, config: bytes = b"") -> Treatment:
    return treatment(handler, compiled(*files, config=config).extensions)


def test_without_a_rule_a_handler_is_allowed_without_what_none_needs() -> None:
    said = of("Contoso.Agent")
    assert (said.allowed, said.handler_class, said.signature_required, said.denied) == (True, "compat", False, ())
    assert (said.limits, said.without, said.by) == (HandlerLimits(), WITHOUT, {})
    assert set(WITHOUT) <= set(NAMES)
    assert len(set(WITHOUT)) == len(WITHOUT)
    # What vendors' scripts do every day takes these.
    assert {"chown", "dac_override", "setuid", "setgid", "kill", "sys_admin", "net_admin"}.isdisjoint(WITHOUT)


def test_each_key_is_taken_from_the_most_specific_rule_that_has_it() -> None:
    files = (
        written("*", "allowed = false", "signature_required = true", "limits = { tasks = 50, memory_mib = 900 }"),
        written("contoso.*", "allowed = true", 'class = "contained"', "limits.memory_mib = 300", "network = false"),
        written("CONTOSO.Agent*", 'denied = ["uninstall"]', 'without = ["net_raw"]'),
        written("Contoso.Agent", 'class = "compat"', "without = []"),
    )
    agent, longer = of("Contoso.Agent", *files), of("contoso.AGENTforlinux", *files)
    assert (agent.allowed, agent.handler_class, agent.denied) == (True, "compat", ("uninstall",))
    assert agent.without == WITHOUT
    assert agent.limits == HandlerLimits(memory_mib=300, tasks=50)
    assert agent.signature_required
    assert (agent.by["handler_class"].name, agent.by["handler_class"].file) == ("Contoso.Agent", "13.toml")
    assert agent.by["signature_required"].name == "*"
    assert (longer.handler_class, longer.without) == ("contained", (*WITHOUT, "net_raw"))
    assert not longer.network
    assert not of("Fabrikam.Agent", *files).allowed
    assert not of("Contoso", *files).allowed


NAME = st.text("aAbB.", min_size=1, max_size=6).map(lambda text: f"a{text}")


@given(st.lists(NAME | NAME.map("{}*".format) | st.just("*"), unique_by=str.lower, max_size=8), NAME)
def test_no_rule_that_fits_better_is_passed_over(names: list[str], handler: str) -> None:
    """Against the plainest way to say it: the longest beginning, and the whole name before any beginning."""
    rules = [ExtensionRule(name, "It says who it is.", allowed=True, file="f") for name in names]
    by = treatment(handler, rules).by
    wanted, known = handler.lower(), {name.lower() for name in names}
    candidates = [wanted, *(f"{wanted[:size]}*" for size in range(len(wanted), -1, -1))]
    best = next((name for name in candidates if name in known), None)
    assert (by["allowed"].name.lower() if by else None) == best


def test_only_leaving_a_capability_is_a_loosening() -> None:
    keeps = written("Contoso.Profiler", 'keep = ["sys_ptrace"]')
    with pytest.raises(ConfigError, match=r"AllowLoosening=y; these loosen: extensions: Contoso\.Profiler keeps sys_p"):
        compiled(keeps)
    policy = compiled(keeps, config=ALLOWING)
    assert policy.origin.loosened == ("extensions: Contoso.Profiler keeps sys_ptrace",)
    said = treatment("Contoso.Profiler", policy.extensions)
    assert said.without == tuple(name for name in WITHOUT if name != "sys_ptrace")
    assert treatment("Contoso.Other", policy.extensions).without == WITHOUT
    tighter = written("*", "allowed = true", 'class = "contained"', 'denied = ["enable"]', "keep = []")
    assert compiled(tighter).origin.loosened == ()


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([written("A.B", "allowed = 1")], "name A.B: allowed: is a whole number, expected true or false"),
        (
            [written("A.B", "allow = true")],
            "name A.B: allow: there is no such key, expected one of name, why, allowed, class",
        ),
        ([written("A.B", "allowed = true", why="")], "name A.B: why: is missing"),
        (
            [written("A.B", "allowed = true", why='why = "So."')],
            "name A.B: why: expected a text of at least 10 characters",
        ),
        ([written("A.B", "allowed = true", 'file = "x"')], "file: there is no such key"),
        ([written("A.B", 'handler_class = "contained"')], "handler_class: there is no such key"),
        (
            [written("A.B", 'class = "root"')],
            "name A.B: class: 'root' is no word that may stand here, expected one of compat, contained",
        ),
        (
            [written("A.B", 'denied = ["run"]')],
            "denied, entry 1: 'run' is no word that may stand here, expected one of install",
        ),
        ([written("A.*.B", "allowed = false")], "name: expected a handler's name, the beginning of one and a star"),
        ([written("", "allowed = false")], "table 1: name: expected a handler's name"),
        (
            [f"{written('A.B', 'allowed = false')}\n[[extensions]]\nallowed = true\n"],
            "table 2: name: is missing",
        ),
        (
            [written("A.B", "limits.cpu_percent = 0")],
            "name A.B: limits.cpu_percent: expected a whole number of at least 1",
        ),
        (
            [written("A.B", "limits.memory = 9")],
            "limits.memory: there is no such key, expected one of cpu_percent",
        ),
        ([written("A.B", "limits = {}")], "name A.B: limits is empty, expected one of cpu_percent"),
        ([written("A.B")], "name A.B: says nothing, expected one of allowed, class, signature_required"),
        (
            [written("A.B", 'class = "compat"', "network = false")],
            "network: it can only be taken away from a contained",
        ),
        (
            [written("A.B", 'class = "compat"', "outbound = []")],
            "outbound: it can only be taken away from a contained",
        ),
        ([written("A.B", "network = true", "outbound = []")], "network and outbound are one question"),
        ([written("A.B", 'outbound = [{ to = "10.1.2.3/16", tcp = [1] }]')], "is 10.1.0.0/16 meant, or 10.1.2.3?"),
        ([written("A.B", 'outbound = [{ to = "10.1.0", tcp = [1] }]')], "10.1.0 is neither an address nor a prefix"),
        ([written("A.B", 'outbound = [{ to = "::/129", tcp = [1] }]')], "::/129: such an address has 128 bits"),
        ([written("A.B", 'outbound = [{ to = "::ffff:1.2.3.4", udp = [1] }]')], "is an address of IPv4: write it as"),
        ([written("A.B", 'outbound = [{ to = "::1" }]')], "outbound: ::1 has no port, expected at least one in tcp"),
        (
            [written("A.B", 'outbound = [{ to = "::1", port = 1 }]')],
            "outbound, entry 1, port: there is no such key, expected one of to, tcp, udp",
        ),
        ([written("A.*", ASKS)], "wireserver: expected in a rule that names one handler, whole"),
        ([written("A.B-C", ASKS)], "name A.B-C: name: expected a handler's name"),
        ([written(f"A.{'b' * 127}", ASKS)], "name: expected a text of at most 128 characters"),
        ([written("A.B", 'keep = ["net_raw"]')], "keep: net_raw is not taken away; taken away are sys_ptrace"),
        ([written("A.B", 'keep = ["sys_ptrac"]')], "keep: there is no capability sys_ptrac"),
        ([written("A.B", 'without = ["lease"]')], "without: lease is taken away from every handler already"),
        ([written("A.B", 'without = ["kill", "kill"]')], "without: kill is named twice"),
        ([written("A.B", 'keep = ["lease"]', 'class = "contained"')], "keep: a contained handler has no capability"),
        ([written("A.B", "allowed = true"), written("a.b", "allowed = false")], "a.b has a table already, in 10.toml"),
        ([*(written(f"A.B{n}", "allowed = false") for n in range(65))], "65 tables, at most 64 are expected"),
        (["[extensions]\nallowed = true\n"], "is a table, expected a list"),
    ],
)
def test_a_fault_names_file_and_table(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compiled(*texts, config=ALLOWING)
    assert str(refusal.value).startswith(f"policy.d/{9 + len(texts)}.toml: [[extensions]] ")
    assert said in str(refusal.value)


def test_of_network_and_outbound_the_more_specific_one_counts() -> None:
    listed = 'outbound = [{ to = "2001:db8::/32", tcp = [443], udp = [53] }]'
    files = (
        written("*", "network = false"),
        written("A.*", listed),
        written("A.B", "network = true"),
        written("B.C", "outbound = []"),
    )
    reached = (Outbound("2001:db8::/32", (443,), (53,)),)
    for handler, network, outbound in (("C.D", False, None), ("A.C", True, reached), ("a.b", True, None)):
        said = of(handler, *files)
        assert (said.network, said.outbound) == (network, outbound)
    assert of("b.c", *files).outbound == ()
    assert prefix("2001:db8::/32") == (bytes.fromhex("20010db8") + bytes(12), 32)
    assert prefix("0.0.0.0/0") == (bytes(4), 0)


def test_a_handler_that_may_ask_the_wireserver_has_a_grant_for_its_slice() -> None:
    policy = compiled(written("Contoso.DiskAgent", ASKS), config=ALLOWING)
    (grant,) = policy.wireserver
    assert grant.cgroup == "azure.slice/azure-vmextensions.slice/azure-vmextensions-Contoso.DiskAgent.slice"
    assert (grant.handler, grant.methods, grant.paths, grant.queries) == (
        "Contoso.DiskAgent", ("GET",), ("/machine/",), ("",),
    )  # fmt: skip
    assert policy.origin.loosened == ("wireserver: Contoso.DiskAgent may GET /machine/",)
    # It is asked for by way of a listener of ours, which a list of its own must not keep it from.
    ruling = rule_on("Contoso.DiskAgent", "1.0", "enable", policy.extensions, Waagent())
    assert with_host(ruling, "168.63.129.16") is None
    host, forwarders = with_host(msgspec.structs.replace(ruling, outbound=()), "168.63.129.16") or ()
    network, bits = prefix(forwarders.to)
    assert (host, bits) == (Outbound("168.63.129.16", (80, 32526)), 24)
    for slot in range(MOST_GRANTS):
        address, port = listener(slot)
        assert (socket.inet_aton(address)[:3], port) == (network[:3], *forwarders.tcp)


def test_whoever_asks_for_the_policy_is_told() -> None:
    denies = written("Contoso.*", "allowed = false")
    keeps = written("Fabrikam.Profiler", 'keep = ["lease"]')
    files = {"10-a.toml": denies.encode(), "20-b.toml": keeps.encode()}
    policy = in_force(SHIPPED, files)
    assert [(file, change.what, change.effect) for file, change in policy.changes] == [
        ("10-a.toml", "Contoso.*: not allowed", "tightens"),
        ("20-b.toml", "Fabrikam.Profiler: keeps lease", "loosens"),
    ]
    shown = " ".join(" ".join(table(policy, 100)).split())
    assert "with no limits but those of their manifests, without sys_ptrace, mac_override" in shown
    assert "Contoso.*: not allowed (10-a.toml). Our machines need it so." in shown
    assert faults_of_all(SHIPPED, files) == [
        "policy.d/20-b.toml: loosens, which takes Policy.AllowLoosening=y: extensions: Fabrikam.Profiler keeps lease"
    ]
    assert faults_of_all(SHIPPED, files, allow_loosening=True) == []


def test_a_rule_reads_in_words() -> None:
    (said,) = compiled(
        written(
            "*", "allowed = true", 'class = "contained"', "signature_required = false", "network = false",
            'denied = ["install", "update"]', "limits = { cpu_percent = 20, tasks = 9 }", "without = []", "keep = []",
        )
    ).extensions  # fmt: skip
    assert told(said) == (
        "*: contained; allowed; without a network where it is contained; "
        "packages need no signature; no install, no update; at most 20 % of one processor, "
        "9 processes and threads; without nothing of its own; keeps nothing of its own"
    )


def test_the_documents_examples_do_what_is_said_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (SHIPPED.parent / "docs/policy-overrides.md").read_text(encoding="utf-8")
    example = next(part for part in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[[extensions]]" in part)
    rules = compiled(example, config=ALLOWING).extensions
    for handler in (
        "Microsoft.CPlat.Core.RunCommandLinux",
        "Microsoft.CPlat.Core.RunCommandHandlerLinux",
        "Microsoft.OSTCExtensions.VMAccessForLinux",
    ):
        assert not treatment(handler, rules).allowed
    assert treatment("Microsoft.Azure.Monitor.AzureMonitorLinuxAgent", rules).signature_required
    assert len(loosenings(rules)) == 1
    (tmp_path / "30-extensions.toml").write_text(example)
    assert main(["policy", "show", "--json", "--policy-dir", str(tmp_path)]) == 0
    shown = json.loads(capsys.readouterr().out)["extensions"]
    assert shown["without"] == [*WITHOUT]
    assert {each["name"] for each in shown["rules"]} == {each.name for each in rules}
    assert {each["file"] for each in shown["rules"]} == {"30-extensions.toml"}
