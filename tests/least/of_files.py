# SPDX-License-Identifier: Apache-2.0
"""The jobs of committers that start no program: host name, root's password, keys in a home, a former VM's traces."""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

from ipc.messages import (
    ClearFormerVm,
    CommitFailed,
    CommitHostName,
    CommitKeyPair,
    CommitKeys,
    CommitPaths,
    CommitRootLock,
    Committed,
    Message,
)
from tests.fabric.scene import KEY
from tests.least.place import Place
from tests.least.scenario import Reply, Scenario, nothing
from tests.least.shapes import with_a_real_lib

UID = 54321
HOME = "/var/home/me"
EXTRAUSERS = "/var/lib/extrausers/shadow"
SHADOW_GROUP = 42
NETWORKD = 998
PRIVATE_KEY = b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"
# A folder that its policy names, and what of a former VM may lie in it.
TRACES = {
    "/var/lib/dhclient": "dhclient.leases",
    "/var/lib/dhcpcd": "eth0/old.lease",
    "/var/lib/dhcp": "dhclient.eth0.leases",
    "/var/lib/NetworkManager": "dhclient-1-eth0.lease",
    "/var/db": "dhclient.leases.eth0",
    "/run/systemd/netif/leases": "2",
    "/etc/systemd/system": "waagent-network-setup.service",
    "/usr/lib/systemd/system": "walinuxagent.service.d/10-Slice.conf",
}


def scenarios() -> Iterator[Scenario]:
    yield _commit("hostname", "a new name", CommitHostName("another"), _has_name, _any_name)
    yield _failing("hostname", CommitHostName("two\nlines"))
    yield from _of_root_lock()
    yield from _of_home_keys()
    yield from _of_former_vm()


def _commit(  # a scenario's parts
    kind: str,
    name: str,
    request: Message,
    check: Callable[[Place, Reply], None],
    prepare: Callable[[Place], None] = nothing,
    about: tuple[str, ...] = (),
) -> Scenario:
    return Scenario(kind, name, request, (Committed,), check, prepare, about=frozenset(about))


def _failing(kind: str, request: Message, prepare: Callable[[Place], None] = nothing) -> Scenario:
    about = frozenset({"CommitFailed in provisioning"})
    return Scenario(kind, "what can't be done", request, (CommitFailed,), _has_failed, prepare, about=about)


def _has_failed(_: Place, reply: Reply) -> None:
    reply.last(CommitFailed)


def _any_name(place: Place) -> None:
    place.keep("/etc/hostname")
    place.run("hostname", "localhost")
    place.finally_run("hostname", "localhost")


def _has_name(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    assert place.at("/etc/hostname").read_bytes() == b"another\n"


def _of_root_lock() -> Iterator[Scenario]:
    for path in ("/etc/shadow", EXTRAUSERS):
        for name, content in {
            "a hash": "root:$6$a$b:19000:0:99999:7:::\n",
            "no line": "other:!:1::::::\n",
            "a short line": "root:x\n",
            "two lines": "root:$6$a$b:1::::::\nroot:$6$a$b:1::::::\n",
        }.items():
            yield _commit(
                "root-lock",
                f"{name} in {path}",
                CommitRootLock(CommitPaths(shadow=path)),
                partial(_is_locked, path=path),
                partial(_shadow, path=path, content=content),
                (os.path.dirname(path),),  # noqa: PTH120 - a name, no file
            )
    yield _failing(
        "root-lock", CommitRootLock(CommitPaths(shadow="/etc/none")), lambda place: place.keep("/etc/.pwd.lock")
    )


def _shadow(place: Place, path: str, content: str) -> None:
    place.keep("/etc/.pwd.lock")
    place.write(path, content, 0o640, 0, SHADOW_GROUP)


def _is_locked(place: Place, reply: Reply, path: str) -> None:
    reply.last(Committed)
    facts = place.at(path).stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_gid) == (0o640, SHADOW_GROUP)
    assert place.at(path).read_text().count("root:*LOCK*:") == 1


def _of_home_keys() -> Iterator[Scenario]:
    for home in ("/home/me", "/srv/homes/me", "/opt/me", "/export/me", "/data/me", "/var/home/me"):
        order = CommitKeys(UID, UID, home, ".ssh/authorized_keys", (KEY,))
        yield _commit(
            "home-keys",
            f"a new file in {home}",
            order,
            partial(_has_key, home=home),
            partial(_empty_home, home=home),
        )
    order = CommitKeys(UID, UID, HOME, ".ssh/authorized_keys", (KEY,))
    has_key = partial(_has_key, home=HOME)
    yield _commit("home-keys", "a key more", order, has_key, _with_a_key)
    pair = CommitKeyPair(UID, UID, HOME, ".ssh/id_rsa", KEY)
    yield Scenario(
        "home-keys", "a key pair", pair, (Committed,), _has_pair, _with_a_key, given=(("memfd", PRIVATE_KEY),)
    )
    yield _commit("home-keys", "a large file", order, has_key, _with_many_keys)
    yield _failing("home-keys", CommitKeys(UID, UID, "/home/nobodys", ".ssh/authorized_keys", (KEY,)))


def _empty_home(place: Place, home: str) -> None:
    place.folder(home, 0o700, UID, UID)


def _with_a_key(place: Place) -> None:
    home = "/var/home/me"
    place.folder(home, 0o700, UID, UID)
    place.folder(f"{home}/.ssh", 0o755, UID, UID)
    place.write(f"{home}/.ssh/authorized_keys", "ssh-rsa AAAA other\n", 0o644, UID, UID)
    place.write(f"{home}/.ssh/.authorized_keys.agent-supervisor", "cut sho", 0o600, UID, UID)


def _with_many_keys(place: Place) -> None:
    home = "/var/home/me"
    place.folder(home, 0o700, UID, UID)
    keys = "".join(f"ssh-rsa AAAA{number:0300} other\n" for number in range(3000))
    place.folder(f"{home}/.ssh", 0o700, UID, UID)
    place.write(f"{home}/.ssh/authorized_keys", keys, 0o600, UID, UID)


def _has_key(place: Place, reply: Reply, home: str) -> None:
    reply.last(Committed)
    file = place.at(f"{home}/.ssh/authorized_keys")
    assert KEY in file.read_text()
    assert (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (UID, 0o600)


def _has_pair(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    for name, mode in (("id_rsa", 0o600), ("id_rsa.pub", 0o644)):
        facts = place.at(f"{HOME}/.ssh/{name}").stat()
        assert (facts.st_uid, stat.S_IMODE(facts.st_mode)) == (UID, mode)
    assert place.at(f"{HOME}/.ssh/id_rsa").read_bytes() == PRIVATE_KEY


def _of_former_vm() -> Iterator[Scenario]:
    order = ClearFormerVm("this VM")
    for folder, trace in TRACES.items():
        yield _removal(f"a trace in {folder}", f"{folder}/{trace}", folder)
    for folder in ("/lib/systemd/system", "/usr/lib/systemd/system"):
        trace = f"{folder}/{TRACES['/usr/lib/systemd/system']}"
        yield _removal(f"a trace in {folder}, /lib being a folder", trace, folder, with_a_real_lib)
    crowd = "/var/lib/dhclient"
    yield _removal("thousands of leases", f"{crowd}/dhclient.leases", crowd, lambda place: _crowd(place, crowd))
    leases = "/run/systemd/netif/leases"
    yield _commit(
        "former-vm",
        "a lease in a folder of networkd's account",
        order,
        lambda _, reply: _is_gone(_, reply, f"{leases}/2"),
        _lease,
        ("dac_override",),
    )
    deep = "/var/lib/dhcp" + 20 * "/d"
    yield _failing("former-vm", order, lambda place: place.folder(deep))


def _removal(name: str, path: str, folder: str, shape: Callable[[Place], None] = nothing) -> Scenario:
    def prepare(place: Place) -> None:
        shape(place)
        place.write(path, "x")

    def check(place: Place, reply: Reply) -> None:
        _is_gone(place, reply, path)

    return _commit("former-vm", name, ClearFormerVm("this VM"), check, prepare, (folder,))


def _crowd(place: Place, folder: str) -> None:
    place.folder(folder)
    for number in range(9000):
        place.at(f"{folder}/dhclient.{number:0200}.leases").write_bytes(b"")


def _lease(place: Place) -> None:
    place.folder("/run/systemd/netif/leases", 0o755, NETWORKD, NETWORKD)
    place.write("/run/systemd/netif/leases/2", "x", 0o644, NETWORKD, NETWORKD)


def _is_gone(place: Place, reply: Reply, path: str) -> None:
    reply.last(Committed)
    assert not place.at(path).exists(), f"{path} is still there"
