# SPDX-License-Identifier: Apache-2.0
"""Planted secrets: which process has which in its memory while it works, and which file each could read at rest.

docs/secrets.md shows the same as a table. The search reads memory from outside; reading is tried from inside.
"""

import base64
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from supervisor.audit import bpf, calls
from supervisor.audit.ptrace import TEXT
from supervisor.audit.ptrace import held as stopped
from tests.audit.auditing import held
from tests.audit.secret_watch import Pattern, Watch, WatchedScene, secrets_in
from tests.fabric.host_channel import PLANTED
from tests.fabric.lab import PROJECT, Lab
from tests.fabric.scene import AGENT_LOG, Wanted, image_files, spawner_pid, supervisor_pid
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]  # on a machine that does nothing else some twenty seconds

KEY = "/var/lib/agent-supervisor/credentials/transport.key"
CHANNEL_KEY = "/var/lib/agent-supervisor/credentials/secure-channel.key"
CERTIFICATES = "/var/lib/agent-supervisor/credentials/certificates"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
SCRIPT = b"#!/bin/sh\n# Known to the tenant alone: 7391-4402-1187, and to whoever carries it out\nexit 0\n"
PASSWORD = "Correct-Horse-7-Battery"
VISITOR, VISITORS = "visitor", "Staple-9-Of-A-Visitor"
SIGNATURE = "sig=UGxhbnRlZEluVGhlVVJM"
BLOB = f"https://planted.z1.blob.invalid/status?sv=2018-03-28&{SIGNATURE}"
PATTERNS: Mapping[str, tuple[Pattern, ...]] = {
    "password": (Pattern(PASSWORD.encode()),),
    # In the document it is in base64; three bytes of one are four of the other.
    "custom data": (Pattern(SCRIPT[12:60]), Pattern(base64.b64encode(SCRIPT)[16:80])),
    "password hash": (Pattern(b"$6$", r"\$6\$[A-Za-z0-9./]{1,16}\$[A-Za-z0-9./]{86}"),),
    "transport key": (Pattern(b"-----BEGIN PRIVATE KEY-----\n", r"(?s).{28}[A-Za-z0-9+/=\n]{200}"),),
    # As its text has it, and as the bytes that it is used as.
    "channel key": (
        Pattern(PLANTED.upper().encode(), "[0-9A-F]{64}"),
        Pattern(bytes.fromhex(PLANTED), "(?s).{32}"),
    ),
    # In its envelope it is in UTF-16.
    "JIT password": (Pattern(VISITORS.encode()), Pattern(VISITORS.encode("utf-16-le"))),
    "blob signature": (Pattern(SIGNATURE.encode()),),
    "host key": (Pattern(b"-----BEGIN OPENSSH PRIVATE KEY-----\n", r"(?s).{36}[A-Za-z0-9+/=\n]{200}"),),
}
# A key in PEM that is not the transport key is one of the tenant's: one search finds both.
TENANT_KEY = "tenant key"
SECRETS = (*PATTERNS, TENANT_KEY)
# Who has what while it works. All others, and they are searched as well, have nothing.
AT_WORK: Mapping[str, frozenset[str]] = {
    "parser": frozenset({"password", "custom data", "channel key", "blob signature"}),
    "provisioning": frozenset({"password", "password hash", "custom data"}),
    # These replace the file that has all hashes, azureuser's among them when the visitor comes.
    "account": frozenset({"password hash"}),
    "account-programs [useradd]": frozenset({"password hash"}),
    "password": frozenset({"password hash"}),
    "password-programs": frozenset({"password hash"}),
    "password-programs [chpasswd]": frozenset({"password hash"}),
    "root-lock": frozenset({"password hash"}),  # it replaces the file that has all hashes
    "custom-data-here-programs [sh]": frozenset({"custom data"}),
    "vault": frozenset({"transport key"}),
    "opener": frozenset({"transport key", TENANT_KEY, "JIT password"}),
    "opener-programs": frozenset({"transport key", TENANT_KEY, "JIT password"}),
    "opener-programs [openssl]": frozenset({"transport key", TENANT_KEY, "JIT password"}),
    "storage": frozenset({"blob signature"}),
}
WITHOUT = {"account-programs", "host-keys", "hostname", "sudoers", "sshd", "home-keys", "verifier", "custom-data-here"}


@dataclass
class Boot:
    """A boot that was watched and is over, all but the two residents gone; the processes and what is true on disk."""

    vm: Vm
    seen: dict[str, dict[str, set[bytes]]]


@pytest.fixture(scope="module")
def boot() -> Iterator[Boot]:
    wanted = Wanted(password=PASSWORD, custom_data=SCRIPT)
    with Lab(image_files(QUICK + b"Provisioning.ExecuteCustomData=y\n")) as lab:
        watch = Watch(PATTERNS)
        vm = Vm(WatchedScene(lab, watch=watch), wanted)
        lab.output("mkdir", "-p", os.path.dirname(AGENT_LOG))  # noqa: PTH120 - of the lab
        vm.scene.start_host(more=("--channel", "enforce"))
        vm.boot(wanted.medium())
        vm.scene.wait_until_ready(120)
        vm.settled()
        users = [{"name": VISITOR, "password": VISITORS}]
        vm.scene.publish("certificates=rsa,rsa", users=users, status_blob=BLOB)
        until("the certificates", lambda: len(tenant_keys(lab)) == 2, 60)
        until("the visitor's password", lambda: hash_of(lab, VISITOR).startswith(b"$6$"), 60)
        until("a transfer", lambda: SIGNATURE.encode() in watch.seen["storage"]["blob signature"], 60)
        yield Boot(vm, {name: told_apart(found, lab.read(KEY)) for name, found in watch.seen.items()})
        vm.scene.stop_agent(vm.agent)
        watch.end()


def hash_of(lab: Lab, user: str) -> bytes:
    """As /etc/shadow has it; empty where it has none."""
    lines = (line.split(b":") for line in lab.read("/etc/shadow").splitlines())
    return next((words[1] for words in lines if words[0] == user.encode()), b"")


def tenant_keys(lab: Lab) -> list[str]:
    """The files of the tenant's keys, once they are listed."""
    folder = lab.path(CERTIFICATES)
    return [f"{CERTIFICATES}/{each.name}" for each in folder.glob("*.key")] if (folder / "list.json").exists() else []


def told_apart(found: dict[str, set[bytes]], transport: bytes) -> dict[str, set[bytes]]:
    """What was found, with the tenant's keys by their own name."""
    keys = found.get("transport key", set())
    own = {key for key in keys if transport.startswith(key)}
    told = {**found, "transport key": own, TENANT_KEY: keys - own}
    return {name: texts for name, texts in told.items() if texts}


def test_at_work_each_has_what_its_job_needs_and_nothing_else(boot: Boot) -> None:
    found: dict[str, set[str]] = {}
    for name, secrets in boot.seen.items():
        kind, _, program = name.partition(" [")
        # Its own interpreter is a companion on the way to a program; the shell has many names.
        named = kind if program.startswith("python") else name.replace("dash", "sh").replace("bash", "sh")
        found.setdefault(named, set()).update(secrets)
    # It hashes that one, and when it says so it may have overwritten it.
    found["provisioning"].discard("JIT password")
    assert {name: secrets for name, secrets in found.items() if secrets} == {**AT_WORK}
    assert {name for name, secrets in found.items() if not secrets} >= WITHOUT


def test_what_was_found_is_what_stands_on_disk(boot: Boot) -> None:
    """No look-alike, and no secret of another machine."""
    lab = boot.vm.lab
    hashes = {text for name in ("provisioning", "password", "root-lock") for text in boot.seen[name]["password hash"]}
    assert hashes == {hash_of(lab, "azureuser"), hash_of(lab, VISITOR)}
    (key,) = boot.seen["vault"]["transport key"]
    assert lab.read(KEY).startswith(key)
    kept = {lab.read(path) for path in tenant_keys(lab)}
    for name in ("opener", "opener-programs", "opener-programs [openssl]"):
        assert {content for content in kept if content.startswith(tuple(boot.seen[name][TENANT_KEY]))} == kept


def test_at_rest_one_has_the_key_that_it_signs_with_and_the_place_for_the_status(boot: Boot) -> None:
    """And no other secret of provisioning: the supervisor that carried them has made room for another one. A visitor's
    hash may be left in what it has freed."""
    until("its first signature", lambda: boot.vm.ps().overview.incarnation, 60)
    found = {pid: secrets_in(pid, PATTERNS) for pid in (spawner_pid(boot.vm.agent), supervisor_pid(boot.vm.agent))}
    at_rest = [set(secrets) - {"password hash"} for secrets in found.values()]
    assert at_rest == [set(), {"channel key", "blob signature"}]
    (_, mine) = found.values()
    assert mine.get("password hash", set()) <= {hash_of(boot.vm.lab, VISITOR)}


def test_the_search_finds_what_is_there(boot: Boot) -> None:
    """This process has them all, for once."""
    lab = boot.vm.lab
    mine = [
        lab.read(HOST_KEY),
        lab.read(KEY),
        lab.read(CHANNEL_KEY),
        lab.read("/etc/shadow"),
        SCRIPT,
        PASSWORD.encode(),
        VISITORS.encode(),
        SIGNATURE.encode(),
    ]
    assert set(secrets_in(os.getpid(), PATTERNS)) == set(PATTERNS)
    assert len(mine) == len(PATTERNS)


FILES = {
    "password hash": "/etc/shadow",
    "transport key": KEY,
    "host key": HOST_KEY,
    "new host key": "/etc/ssh/.agent-supervisor-host-keys/ssh_host_ed25519_key",
    "custom data": "/var/lib/waagent/CustomData",
    "medium": "/dev/sr0",
    "journal": "/var/lib/agent-supervisor/journal",
}


def readable(pid: int, files: Mapping[str, str] = FILES) -> set[str]:
    """Which of `files` the process could read: tried in it, its filters asked apart."""
    number, found = calls.number("openat"), set()
    assert number is not None
    with stopped(pid) as thread:
        arguments = (-100 & 0xFFFFFFFF, 0, os.O_RDONLY)
        if not all(bpf.allows(one, os.uname().machine, number, *arguments) for one in thread.filters()):
            return set()
        for name, path in files.items():
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
            opened = thread.call("openat", -100, TEXT, flags, 0, text=path.encode() + b"\0")
            if opened >= 0:
                found.add(name)
                thread.call("close", opened)
    return found


def test_which_files_each_could_read() -> None:
    """The spawner, which confines others, is root with the right to pass over modes; it opens none of these."""
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        spawner, supervisor = vm.residents()
        with held(vm, "password") as pid:
            there = {"password hash", "new host key", "medium", "journal"}
            assert readable(spawner) == readable(supervisor) == there
            others = {name: pids[0] for name, pids in vm.scene.workers().items() if pids}
            assert readable(pid) == readable(others["password-programs.0"]) == {"password hash", "new host key"}
        with held(vm, "vault") as pid:
            assert readable(pid) == set()
        vm.scene.wait_until_ready()
        _, successor = vm.settled()
        assert successor != supervisor
        until("its start is over", lambda: vm.ps().overview.incarnation)
        assert readable(spawner) == set(FILES) - {"new host key"}
        assert readable(successor) == {"transport key", "custom data", "journal"}
        vm.scene.publish("certificates=rsa")
        with held(vm, "opener") as pid:
            companion = vm.scene.workers()["opener-programs.0"][0]
            assert readable(pid) == readable(companion) == set()
        (path,) = until("the tenant's key", lambda: tenant_keys(vm.lab))
        assert readable(successor, {TENANT_KEY: path}) == {TENANT_KEY}


def test_the_document_names_every_row() -> None:
    text = (PROJECT / "docs/secrets.md").read_text(encoding="utf-8")
    missing = [name for name in (*AT_WORK, *SECRETS) if f"`{name}`" not in text and f"| {name} |" not in text]
    assert missing == []
