# SPDX-License-Identifier: Apache-2.0
"""Owns the bad ovf-env.xml documents: what may stand in one, and what must be said of it. Runs in tests."""

import re
from collections.abc import Callable, Iterator
from functools import partial

from tests.fabric.bad_input import PROVISIONED, Case, Play, Row, meet, provisioned, stop
from tests.fabric.media import OVF_NAME, make_ovf
from tests.fabric.scene import KEY, Wanted
from tests.fabric.udf_writer import make_udf
from tests.fabric.vm import booted

GROUP = "OVF"
WANTED = Wanted()
OVF = WANTED.ovf()
USER = WANTED.user
PASSWORD = str(WANTED.password)
KEYS_FILE = f"/home/{USER}/.ssh/authorized_keys"
HUNDRED_MB = 100_000_000
THUMBPRINT = "8DF9A3E2C1B04D7F6A5E4C3B2A190817F6E5D4C3"
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/shadow">]>'

Document = Callable[[], bytes]


def without(element: str) -> bytes:
    """The document without every element of that name, its content included."""
    cut, number = re.subn(rf"<(wa:)?{element}( [^>]*)?>.*?</(wa:)?{element}>".encode(), b"", OVF, flags=re.DOTALL)
    assert number, f"the document has no {element}"
    return cut


def with_head(doctype: str, user: str) -> bytes:
    """The document with `doctype` before its root element and `user` as it stands there."""
    return OVF.replace(b"?>\n", f"?>\n{doctype}\n".encode(), 1).replace(b"azureuser<", f"{user}<".encode())


def asking(
    user: str = USER,
    host_name: str = WANTED.host_name,
    key: str = KEY,
    path: str = KEYS_FILE,
    custom_data: bytes | str | None = None,
) -> bytes:
    """A well-formed document that asks for these."""
    return make_ovf(user, PASSWORD, host_name, [key], custom_data, key_path=path)


def with_password(text: str) -> bytes:
    """The document with `text`, as it stands there, for a password."""
    return OVF.replace(f">{PASSWORD}<".encode(), f">{text}<".encode())


REQUIRED: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "ProvisioningSection": (without("ProvisioningSection"), ("ProvisioningSection on", "is missing")),
    "Version": (OVF.replace(b"<wa:Version>1.0</wa:Version>\n", b"", 1), ("Version", "missing")),
    "LinuxProvisioningConfigurationSet": (
        without("LinuxProvisioningConfigurationSet"),
        ("LinuxProvisioningConfigurationSet on", "is missing"),
    ),
    "HostName": (without("HostName"), ("HostName", "missing or empty")),
    "UserName": (without("UserName"), ("UserName", "missing or empty")),
    "PlatformSettingsSection": (without("PlatformSettingsSection"), ("PlatformSettingsSection on", "is missing")),
    "PlatformSettings": (without("PlatformSettings"), ("PlatformSettings on", "is missing")),
    "ProvisionGuestAgent": (without("ProvisionGuestAgent"), ("ProvisionGuestAgent", "missing or empty")),
}
# By what is wrong; made only when it is its turn, for some are large.
DOCUMENTS: dict[str, tuple[Document, tuple[str, ...]]] = {
    "not XML": (lambda: b"user=azureuser\npassword=" + PASSWORD.encode() + b"\n", ("line 1",)),
    "cut off": (lambda: OVF[: len(OVF) // 2], ("line",)),
    "empty": (lambda: b"", ("empty",)),
    "not UTF-8": (lambda: OVF.replace(b"vm-demo", b"vm-d\xe9mo"), ("byte", "UTF-8")),
    "another root element": (
        lambda: OVF.replace(b"<Environment ", b"<Elsewhere ").replace(b"</Environment", b"</Elsewhere"),
        ("Environment", "root element"),
    ),
    "a document type": (lambda: with_head("<!DOCTYPE Environment>", USER), ("document type",)),
    "entities": (lambda: with_head(LAUGHS, "&b;"), ("document type",)),
    "an entity from outside": (lambda: with_head(OUTSIDE, "&a;"), ("document type",)),
    "elements 10,000 deep": (
        lambda: OVF.replace(b"<HostName>", b"<x>" * 10_000 + b"</x>" * 10_000 + b"<HostName>"),
        ("nested deeper",),
    ),
    "100,000 elements": (lambda: OVF.replace(b"<HostName>", b"<x/>" * 100_000 + b"<HostName>"), ("elements",)),
    "100 MB": (lambda: OVF + b" " * HUNDRED_MB, ("bytes long, more than",)),
    **{f"no {name}": (partial(bytes, document), words) for name, (document, words) in REQUIRED.items()},
    "user name empty": (lambda: asking(user=""), ("UserName", "missing or empty")),
    "user name root": (lambda: asking(user="root"), ("UserName", "root")),
    "user name of a daemon": (lambda: asking(user="daemon"), ("UserName", "daemon")),
    "user name with a newline": (lambda: asking(user="azure\nuser"), ("UserName",)),
    "user name with a slash": (lambda: asking(user="azure/user"), ("UserName",)),
    "user name with a colon": (lambda: asking(user="azure:user"), ("UserName",)),
    "user name with a leading dash": (lambda: asking(user="--help"), ("UserName",)),
    "user name of 300 characters": (lambda: asking(user="a" * 300), ("UserName", "32")),
    "user name not ASCII": (lambda: asking(user="jürgen"), ("UserName",)),
    "user name that sudoers reads otherwise": (lambda: asking(user="ALL"), ("UserName", "sudoers")),
    "key with a newline": (lambda: asking(key=f"{KEY}\n{KEY}"), ("PublicKey/Value", "one line")),
    "key with options": (lambda: asking(key=f'command="id" {KEY}'), ("PublicKey/Value", "key type")),
    "key that is none": (lambda: asking(key="hello"), ("PublicKey/Value",)),
    "key path empty": (lambda: asking(path=""), ("PublicKey", "Path")),
    "key path outside the home": (lambda: asking(path="/root/.ssh/authorized_keys"), ("PublicKey/Path", "not below")),
    "key path that climbs out of the home": (
        lambda: asking(path=f"/home/{USER}/../../etc/cron.d/keys"),
        ("PublicKey/Path", "not below"),
    ),
    "key path with a newline": (lambda: asking(path=f"/home/{USER}/.ssh/a\nb"), ("PublicKey/Path", "printable")),
    "key by what is no thumbprint": (
        lambda: make_ovf(USER, PASSWORD, "vm", [], key_path=KEYS_FILE, fingerprints=[THUMBPRINT[:-1]]),
        ("PublicKey/Fingerprint", "thumbprint", "40"),
    ),
    "key pair by what is no thumbprint": (
        lambda: make_ovf(USER, PASSWORD, "vm", [], key_pairs=[(f"/home/{USER}/.ssh/id_rsa", THUMBPRINT[:-1])]),
        ("KeyPair/Fingerprint", "thumbprint", "40"),
    ),
    "password with a newline": (lambda: with_password("one&#10;two"), ("UserPassword",)),
    "password with a NUL": (lambda: with_password("one&#0;two"), ("line",)),
    "password of 10,000 characters": (lambda: with_password("p" * 10_000), ("UserPassword", "longer than")),
    "host name empty": (lambda: asking(host_name=""), ("HostName", "missing or empty")),
    "host name of 65 characters": (lambda: asking(host_name="a.bc" * 16 + "d"), ("HostName", "64")),
    "host name with a label of 64": (lambda: asking(host_name="a" * 64), ("HostName", "63")),
    "host name with spaces": (lambda: asking(host_name="my first vm"), ("HostName",)),
    "host name with two dots in a row": (lambda: asking(host_name="vm..example"), ("HostName",)),
    "host name with a final dot": (lambda: asking(host_name="vm.example."), ("HostName",)),
    "host name not ASCII": (lambda: asking(host_name="größe"), ("HostName",)),
    "custom data of 100 MB": (lambda: asking(custom_data="QUJD" * (HUNDRED_MB // 3)), ("bytes long, more than",)),
    "custom data not base64": (lambda: asking(custom_data="#cloud-config\nÿ"), ("CustomData", "base64")),
}
FAILING = tuple(Case(GROUP, name, words) for name, (_, words) in DOCUMENTS.items())
LINK = Case(
    GROUP,
    "key path through a symbolic link",
    ("/home/azureuser/.ssh", "is not a folder"),
    left=("/etc/", "/home/azureuser"),
)
# What must be taken, though one might think otherwise.
GOOD: dict[str, Wanted] = {
    "host name with dots": Wanted(host_name="vm-1.internal.example"),
    "host name of 64 characters": Wanted(host_name=f"{'a' * 31}.{'b' * 32}"),
    "custom data of 64 KiB, binary": Wanted(custom_data=bytes(range(256)) * 256),
    "password with white space and &": Wanted(password=" <to & the letter> ü "),
}
TAKEN = tuple(Case(GROUP, name, ready=True) for name in GOOD)


def in_a_row(cases: tuple[Case, ...]) -> Iterator[Row]:
    """One VM, one bad document a start; at the end a good one, which makes up for all of them."""
    with booted() as vm:
        rows = []
        for case in cases:
            rows.append(meet(vm, case, make_udf(DOCUMENTS[case.name][0]())))
            assert OVF_NAME in rows[-1].reported
            stop(vm)
        assert vm.told(PASSWORD) == []
        vm.boot(vm.wanted.medium())
        afterwards = provisioned(vm)
        yield from (Row(row.case, row.reported, row.left, afterwards) for row in rows)


def through_a_link(cases: tuple[Case, ...]) -> Iterator[Row]:
    """The home comes from a skeleton in which .ssh leads elsewhere; what it leads to stays as it is."""
    with booted() as vm:
        vm.lab.output("sh", "-ec", "mkdir -m 0777 /var/tmp/elsewhere; ln -s /var/tmp/elsewhere /etc/skel/.ssh")
        row = meet(vm, cases[0], vm.wanted.medium())
        assert vm.lab.output("ls", "-A", "/var/tmp/elsewhere") == ""
        stop(vm)
        vm.lab.output("rm", f"/home/{USER}/.ssh")
        vm.boot(None)
        yield Row(row.case, row.reported, row.left, provisioned(vm))


def taken(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted(GOOD[cases[0].name]) as vm:
        vm.boot(vm.wanted.medium())
        provisioned(vm)
        yield Row(cases[0], "Ready", PROVISIONED)


PLAYS: tuple[Play, ...] = (
    *(Play(FAILING[first::4], in_a_row) for first in range(4)),
    Play((LINK,), through_a_link),
    *(Play((case,), taken) for case in TAKEN),
)
