# SPDX-License-Identifier: Apache-2.0
"""Documents made to hurt, read by the real parser in its jail: each is refused with its place, or read; soon, by all.

None may end a worker otherwise, not by its memory, its time or its filter: that would be a violation, and no answer.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fabric.lab import Lab
from tests.fuzz import json_mutations, text_mutations
from tests.fuzz.targets import SAMPLES, SEED
from tests.jail.rigged import Rig, place_policy, policy_sources

pytestmark = pytest.mark.root

MIB = 1024 * 1024
LONGEST_S = 5.0
CONFIG, SETTINGS, CERTIFICATES = "ExtensionsConfig", "VmSettings", "CertificateFile"
REMOTE, PROFILE, EVENTS = "RemoteAccess", "ArtifactsProfile", "EventFile"
PACKAGES, MANIFEST, STATUS = "PackageManifest", "HandlerManifest", "StatusFile"
HEARTBEAT, POLICY = "Heartbeat", "ExtensionPolicy"
FINALS = {
    CONFIG: "ExtensionsGoalState", EVENTS: "ExtensionEvents", PACKAGES: "PackageChoice", STATUS: "ExtensionStatus",
    POLICY: "ExtensionPolicyFile",
}  # fmt: skip
FUZZED = {
    CONFIG: "extensions-config", SETTINGS: "vm-settings", PACKAGES: "package-manifest", MANIFEST: "handler-manifest",
    STATUS: "status-file", HEARTBEAT: "heartbeat", POLICY: "extension-policy",
}  # fmt: skip
FIELDS = {PACKAGES: {"version": "1"}}
LAUGHS = "".join(f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">' for number in range(1, 10))
TAKEN = ""


def around(content: str, root: str = "Extensions") -> str:
    return f"<{root}>{content}</{root}>"


def keys(count: int) -> str:
    """An object of so many keys."""
    return "{" + ",".join(f'"{number:x}":0' for number in range(count)) + "}"


def handlers(count: int) -> str:
    return json.dumps(
        {"extensionGoalStates": [{"name": f"a.{n}", "version": "1", "state": "enabled"} for n in range(count)]}
    )


def objects(count: int) -> str:
    """An object of so many empty ones."""
    return "{" + ",".join(f'"{number:x}":{{}}' for number in range(count)) + "}"


def statuses(text: str, parts: int) -> str:
    """A status file whose substatuses say `text`."""
    said = {"status": "success", "formattedMessage": {"lang": "en", "message": text}}
    return json.dumps([{"status": {**said, "substatus": [{**said, "name": "n"}] * parts}}])


# What it is -> the document's kind, its text, and what the refusal says; TAKEN where it is one that is read.
DOCUMENTS: dict[str, tuple[str, Callable[[], str], str]] = {
    "a billion laughs": (CONFIG, lambda: f"<!DOCTYPE a [<!ENTITY l0 'ha'>{LAUGHS}]>{around('&l9;')}", "document type"),
    "a file from outside": (REMOTE, lambda: '<!DOCTYPE a SYSTEM "file:///etc/shadow"><RemoteAccess/>', "document type"),
    "100,000 elements deep": (CONFIG, lambda: "<Extensions>" + "<a>" * 100_000, "nested deeper than 32"),
    "an element that never ends": (CONFIG, lambda: "<Extensions><a " + "b" * MIB, "unclosed token"),
    "8 MiB of nothing": (CONFIG, lambda: " " * (8 * MIB), "8388608 bytes long, more than the 2097152 allowed"),
    "2 MiB of certificates": (CERTIFICATES, lambda: "M" * (2 * MIB), "more than the 1048576 allowed"),
    "2 MiB of one text": (CONFIG, lambda: around("x" * (2 * MIB - 100)), TAKEN),
    "2 MiB of escapes": (CONFIG, lambda: around("&amp;#x26;" * 200_000), TAKEN),
    "2 MiB of URLs": (CONFIG, lambda: around("https://" * 250_000), TAKEN),
    "50,000 tokens": (CONFIG, lambda: around("".join(f"https://a/?sig={n:06} " for n in range(50_000))), TAKEN),
    "10,000 handlers": (CONFIG, lambda: around(around('<Plugin name="a.b"/>' * 10_000, "Plugins")), "8192 elements"),
    "10,000 handlers of FastTrack": (SETTINGS, lambda: handlers(10_000), "10000 handlers, more than the 256 allowed"),
    "lists 100,000 deep": (SETTINGS, lambda: '{"a":' + "[" * 99_000, "nested too deeply"),
    "a million empty objects": (EVENTS, lambda: "[" + "{}," * MIB + "{}]", "more than 100000 objects"),
    "400,000 keys": (EVENTS, lambda: keys(400_000), TAKEN),
    "170,000 keys of FastTrack": (SETTINGS, lambda: keys(170_000), TAKEN),
    "a number of a million digits": (SETTINGS, lambda: '{"inSvdSeqNo":' + "9" * MIB + "}", "document"),
    "settings within settings": (SETTINGS, lambda: json.dumps({"a": json.dumps({"a": "\\" * 400_000})}), TAKEN),
    "another format's certificates": (
        CERTIFICATES, lambda: around("<Format>Pem</Format><Data>-----BEGIN</Data>", "CertificateFile"), TAKEN,
    ),
    "certificates as PEM": (
        CERTIFICATES, lambda: around("<Data>-----BEGIN CERTIFICATE-----</Data>", "CertificateFile"), "not base64",
    ),
    "certificates that are no DER": (CERTIFICATES, lambda: around("<Data>AAAA</Data>", "CertificateFile"), "no DER"),
    "a megabyte of base64": (
        CERTIFICATES, lambda: around(f"<Data>{'MAAA' * 250_000}</Data>", "CertificateFile"), TAKEN,
    ),
    "10,000 accounts": (REMOTE, lambda: around(around("<User/>" * 8000, "Users"), "RemoteAccess"), "more than the 64"),
    "a profile of a megabyte of zeros": (PROFILE, lambda: "\0" * MIB, TAKEN),
    "4 MiB of one message": (EVENTS, lambda: json.dumps([{"Message": "http://" * 590_000}]), TAKEN),
    "a manifest of a package with laughs": (PACKAGES, lambda: f"<!DOCTYPE a [<!ENTITY l0 'ha'>{LAUGHS}]><a/>", "type"),
    "100,000 versions": (
        PACKAGES, lambda: around("<Plugin/>" * 100_000, "PluginVersionManifest"), "more than 32768 elements",
    ),
    "a version of a megabyte": (
        PACKAGES, lambda: around(around(around(around("9" * MIB, "Version"), "Plugin"), "Plugins"),
                                 "PluginVersionManifest"), TAKEN,
    ),
    "commands without end": (
        MANIFEST, lambda: json.dumps([{"handlerManifest": {"enableCommand": "a" * 500_000}}]), "is over the limit of",
    ),
    "a manifest 90,000 deep": (MANIFEST, lambda: "[" * 90_000, "nested too deeply"),
    "a status of a megabyte of tokens": (STATUS, lambda: statuses("https://a/?sig=1 " * 25_000, 1), TAKEN),
    "a status of 8000 parts": (STATUS, lambda: statuses("x", 8000), TAKEN),
    "a status of 90,000 lists": (STATUS, lambda: "[" * 90_000 + "]" * 90_000, TAKEN),
    "a status that was cut off": (STATUS, lambda: statuses("x" * 100_000, 5)[:-9], TAKEN),
    "a status of a megabyte of zeros": (STATUS, lambda: "\0" * MIB, TAKEN),
    "a status of 2 MiB": (STATUS, lambda: " " * (2 * MIB), "more than the 1048576 allowed"),
    "a heartbeat of a megabyte": (HEARTBEAT, lambda: json.dumps([{"heartbeat": {"status": "x" * 900_000}}]), TAKEN),
    "a policy of 30,000 names": (
        POLICY, lambda: f'{{"policyVersion":"0.1","extensionPolicies":{{"extensions":{objects(30_000)}}}}}', "document",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Lab() as lab, Rig(lab, place_policy(lab, "plain", policy_sources()), phase="steady") as rig:
        yield rig


def parsed(rig: Rig, kind: str, content: str) -> tuple[str, dict[str, Any]]:
    """What a parser has to answer when it takes the document, and what came of it."""
    final = FINALS.get(kind, kind)
    request = json.dumps({f"Parse{kind}": FIELDS.get(kind, {})})
    return final, rig.ask(
        "job", kind="parser", content=content, request=request, final=final, deadline_s=LONGEST_S, bait=False
    )


@pytest.mark.parametrize("kind", FUZZED)
def test_what_chance_makes_of_a_document_of_handlers_is_refused_or_read(rig: Rig, kind: str) -> None:
    draw = random.Random(f"{SEED} {kind}")
    seeds = [path.read_bytes() for path in sorted((SAMPLES / FUZZED[kind]).iterdir())]
    final, answer = parsed(rig, kind, seeds[0].decode())
    assert answer["messages"] == [final]
    for _ in range(8):
        seed = draw.choice(seeds)
        xml = seed.startswith(b"<")
        document = text_mutations.mutate(seed, seeds, draw) if xml else json_mutations.mutate(seed, draw)
        _, answer = parsed(rig, kind, document.decode(errors="replace"))
        assert answer["messages"] in ([final], ["InputRefused"]), answer
        assert not [line for line in answer["log"] if "violation" in line]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_made_to_hurt_is_refused_or_read(rig: Rig, name: str) -> None:
    kind, make, said = DOCUMENTS[name]
    final, answer = parsed(rig, kind, make())
    if said == TAKEN:
        assert answer["messages"] == [final], answer
    else:
        assert answer["messages"] == ["InputRefused"], answer
        assert said in answer["problem"] or said == "document"
    assert len(answer["problem"]) < 300
    assert not [line for line in answer["log"] if "violation" in line]
