# SPDX-License-Identifier: Apache-2.0
"""Whether an operation of a handler may be carried out: by the policy's rules, and by waagent's policy file."""

import msgspec
import pytest

from ipc.messages import ExtensionPolicyFile, ExtensionRule, HandlerLimits, PolicyEntry
from ipc.messages.extension_rules import HandlerVerb
from policy.extensions import WITHOUT
from supervisor.extensions import refused
from supervisor.extensions.ruling import Ruling, Waagent, rule, within

HANDLER, PATH = "Contoso.Agent", "/etc/waagent_policy.json"
WHY = "Our machines need it so."
OF_ALL = f"{PATH} has extensionPolicies.signatureRequired = true"
NONE = Waagent()


def said(name: str = "Contoso.*", **keys: object) -> ExtensionRule:
    return msgspec.convert({"name": name, "why": WHY, "file": "10-site.toml", **keys}, ExtensionRule)


def file(*entries: PolicyEntry, listed_only: bool = False, signature_required: bool = False) -> Waagent:
    return Waagent(PATH, ExtensionPolicyFile("0.1.0", listed_only, signature_required, entries))


def ruled(*rules: ExtensionRule, verb: HandlerVerb = "enable", waagent: Waagent = NONE) -> Ruling:
    return rule(HANDLER, "1.2", verb, rules, waagent)


def test_as_shipped_everything_is_allowed_and_nothing_required() -> None:
    for verb in ("install", "enable", "update", "disable", "uninstall"):
        assert ruled(verb=verb) == Ruling(True, "", "compat", False, HandlerLimits(), WITHOUT)


@pytest.mark.parametrize(
    ("verb", "code"), [("install", 1009), ("update", 1009), ("enable", 1009), ("disable", 1010), ("uninstall", 1010)]
)
def test_a_refusal_names_its_rule_and_has_the_hosts_code(verb: HandlerVerb, code: int) -> None:
    found = ruled(said(allowed=False), verb=verb)
    assert (found.allowed, found.code) == (False, code)
    assert found.why == (
        f'{verb} of Contoso.Agent 1.2 is not allowed: the rule "Contoso.*" in policy.d/10-site.toml has '
        f"allowed = false ({WHY})"
    )
    # With the rule taken away it is allowed.
    assert ruled(said("Fabrikam.*", allowed=False), verb=verb).allowed


def test_single_operations_are_refused_and_others_are_not() -> None:
    denying = said(denied=["uninstall", "disable"])
    assert ruled(denying, verb="uninstall").why.endswith(
        f'the rule "Contoso.*" in policy.d/10-site.toml has uninstall in denied ({WHY})'
    )
    assert [ruled(denying, verb=verb).allowed for verb in ("install", "enable", "update", "disable", "uninstall")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_how_it_is_run_comes_with_the_ruling() -> None:
    found = ruled(
        said("*", limits={"tasks": 9}, without=["net_raw"]), said(**{"class": "contained"}, limits={"memory_mib": 64})
    )
    assert (found.handler_class, found.limits) == ("contained", HandlerLimits(memory_mib=64, tasks=9))
    assert found.without == (*WITHOUT, "net_raw")
    assert found.class_why == 'the rule "Contoso.*" in policy.d/10-site.toml'


@pytest.mark.parametrize(
    ("waagent", "allowed"),
    [
        (NONE, True),
        (file(), True),
        (file(listed_only=True), False),
        (file(PolicyEntry("Contoso.Other"), listed_only=True), False),
        (file(PolicyEntry("contoso.AGENT"), listed_only=True), True),
        (file(PolicyEntry("Contoso.*"), listed_only=True), False),
        (Waagent(PATH, None, "policyVersion is 9, expected 0.1.0 at most"), False),
    ],
)
@pytest.mark.parametrize("verb", ["enable", "disable", "uninstall"])
def test_waagents_file_has_its_say(waagent: Waagent, allowed: bool, verb: HandlerVerb) -> None:
    found = ruled(verb=verb, waagent=waagent)
    assert found.allowed is allowed
    assert found.code == (0 if allowed else 1009 if verb == "enable" else 1010)
    # Neither of the two allows what the other one refuses.
    assert not ruled(said(allowed=False), verb=verb, waagent=waagent).allowed
    assert ruled(said(allowed=True), verb=verb, waagent=waagent).allowed is allowed


def test_a_refusal_of_waagents_file_names_path_and_key_or_what_is_wrong_with_it() -> None:
    assert ruled(waagent=file(listed_only=True)).why == (
        "enable of Contoso.Agent 1.2 is not allowed: /etc/waagent_policy.json has "
        "extensionPolicies.allowListedExtensionsOnly = true, and extensionPolicies.extensions does not list it; to "
        "allow it, add it there"
    )
    assert ruled(verb="uninstall", waagent=Waagent(PATH, None, "line 3: no JSON")).why == (
        "uninstall of Contoso.Agent 1.2 is not allowed: /etc/waagent_policy.json can't be used, and until it can "
        "nothing is carried out: line 3: no JSON"
    )


@pytest.mark.parametrize(
    ("rules", "waagent", "why"),
    [
        ((), file(), ""),
        ((), file(signature_required=True), OF_ALL),
        ((), file(PolicyEntry(HANDLER), signature_required=True), OF_ALL),
        ((), file(PolicyEntry(HANDLER, False), signature_required=True), ""),
        (
            (),
            file(PolicyEntry("contoso.agent", True)),
            f"{PATH} has extensionPolicies.extensions.contoso.agent.signatureRequired = true",
        ),
        (
            (),
            file(PolicyEntry(HANDLER, False), PolicyEntry(HANDLER.upper(), True)),
            f"{PATH} has extensionPolicies.extensions.CONTOSO.AGENT.signatureRequired = true",
        ),
        (
            (said(signature_required=True),),
            NONE,
            'the rule "Contoso.*" in policy.d/10-site.toml has signature_required = true',
        ),
        # A rule that requires none does not free from what the file requires.
        (
            (said(signature_required=False),),
            file(signature_required=True),
            OF_ALL,
        ),
    ],
)  # fmt: skip
def test_who_requires_a_signature(rules: tuple[ExtensionRule, ...], waagent: Waagent, why: str) -> None:
    found = ruled(*rules, waagent=waagent)
    assert (found.signature_required, found.signature_why) == (bool(why), why)
    assert found.allowed


def test_of_two_limits_the_lower_one_counts() -> None:
    limits = HandlerLimits(cpu_percent=50, memory_mib=None, tasks=9)
    assert within(limits, 80, 100) == HandlerLimits(50, 100, 9)
    assert within(limits, 20, None) == HandlerLimits(20, None, 9)


def test_what_the_host_and_others_are_told_of_a_refusal() -> None:
    ruling = ruled(said(allowed=False))
    told = refused.handler_status(HANDLER, "1.2", ruling, 3)
    assert (told.status, told.code, told.message, told.sequence_number) == ("NotReady", 1009, ruling.why, 3)
    off = refused.switched_off("uninstall", ruled(verb="uninstall"))
    assert (off.allowed, off.code) == (False, 1010)
    assert "Extensions.Enabled is n" in off.why
    text = refused.status_file(HANDLER, "enable", ruling.code, ruling.why, 1_700_000_000.9)
    (item,) = msgspec.json.decode(text)
    assert (item["version"], item["timestampUTC"]) == (1.0, "2023-11-14T22:13:20Z")
    assert item["status"] == {
        "name": HANDLER,
        "operation": "enable",
        "status": "error",
        "code": 1009,
        "formattedMessage": {"lang": "en-US", "message": ruling.why},
    }
