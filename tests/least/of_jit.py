# SPDX-License-Identifier: Apache-2.0
"""The jobs around accounts that the platform asks for and takes back: made as others are, once the agent is steady, and
ended by the committer that does nothing else."""

from collections.abc import Callable, Iterator
from functools import partial

from ipc.messages import (
    CommitAccount,
    CommitFailed,
    CommitPassword,
    CommitPaths,
    CommitSudo,
    Committed,
    HashPassword,
    Message,
    MoveJitExpiry,
    PasswordHashed,
    RemoveJitAccount,
    WithdrawSudo,
)
from ipc.secret import Secret
from tests.least.of_accounts import FILES, HASH, PLACES
from tests.least.place import Place
from tests.least.scenario import Reply, Scenario, nothing

NAME, UID = "visitor", 4321
SHADOW_GROUP, MAIL_GROUP = 42, 8
SUDOERS = "/etc/sudoers.d/waagent"
LINES = {
    "passwd": "{name}:x:{uid}:{uid}:{comment}:{home}/{name}:/bin/sh",
    "shadow": "{name}:!:19000:0:99999:7:::",
    "group": "{name}:x:{uid}:",
    "gshadow": "{name}:!::",
    "subuid": "{name}:165536:65536",
    "subgid": "{name}:165536:65536",
}
MAKE = CommitAccount(NAME, f"/home/{NAME}", 1000, "JIT_Account", "2031-04-05")
PASSWORD = CommitPassword(NAME, Secret(HASH))
Prepare = Callable[[Place], None]
Check = Callable[[Place, Reply], None]


def scenarios() -> Iterator[Scenario]:
    """One for each thing that the committer does, and one of each other kind once the agent is steady."""
    for folder in ("/home", *PLACES):
        yield _end(f"a home in {folder}", partial(_account, home=folder), _is_gone, folder)
    yield _end("a home that is closed, with a closed folder in it", _closed, _is_gone, "dac_override")
    yield _end("a home with a folder whose files only owners remove", _sticky, _is_gone, "fowner")
    yield _end("an account that something runs as", _running, _has_ended_it, "kill")
    for folder in ("/var/mail", "/var/spool/mail"):
        yield _end(f"a mailbox in {folder}", partial(_mail, folder=folder), _has_no_mail, folder)
    move = MoveJitExpiry(NAME, 1000, 22375)
    yield Scenario("jit-account", "another end", move, (Committed,), _is_moved, _account, phase="steady")
    yield _failing("jit-account", RemoveJitAccount(NAME, "/home", 1000), partial(_account, comment="me"))
    yield Scenario("account", "a JIT account", MAKE, (Committed,), _done, _no_account, phase="steady")
    yield _failing("account", MAKE, partial(_account, comment="me"))
    yield Scenario("password", "of a JIT account", PASSWORD, (Committed,), _done, _account, phase="steady")
    yield _failing("password", PASSWORD, _no_account)
    withdraw = WithdrawSudo(NAME, "/etc/sudoers.d")
    yield Scenario("sudoers", "a line withdrawn", withdraw, (Committed,), _may_not_sudo, _sudo, phase="steady")
    order = CommitSudo(NAME, without_password=False, paths=CommitPaths())
    yield _failing("sudoers", order, lambda place: place.write(SUDOERS, "x=\n", 0o440))
    yield Scenario(
        "provisioning",
        "the password of a JIT account",
        HashPassword("6", "abcdefghij"),
        (PasswordHashed,),
        _is_hashed,
        given=(("memfd", b"Correct-Horse-7"),),
        phase="steady",
    )


def _end(name: str, prepare: Prepare, check: Check, about: str) -> Scenario:
    home = about if about in PLACES else "/home"
    order = RemoveJitAccount(NAME, home, 1000)
    return Scenario("jit-account", name, order, (Committed,), check, prepare, about=frozenset({about}), phase="steady")


def _failing(kind: str, order: Message, prepare: Prepare = nothing) -> Scenario:
    about = frozenset({"CommitFailed in steady"})
    name = "what can't be done once it is steady"
    return Scenario(kind, name, order, (CommitFailed,), _has_failed, prepare, about=about, phase="steady")


def _no_account(place: Place) -> None:
    place.keep(*FILES, "/etc/.pwd.lock", "/var/log/lastlog", "/var/log/faillog")
    place.remove(f"/home/{NAME}")


def _account(place: Place, home: str = "/home", comment: str = "JIT_Account") -> None:
    _no_account(place)
    for file, line in LINES.items():
        with place.at(f"/etc/{file}").open("a") as stream:
            stream.write(line.format(name=NAME, uid=UID, comment=comment, home=home) + "\n")
    if not place.at(home).is_dir():
        place.folder(home)
    place.keep(f"{home}/.{NAME}.agent-supervisor-removed")
    place.folder(f"{home}/{NAME}", 0o755, UID, UID)
    place.folder(f"{home}/{NAME}/.config", 0o755, UID, UID)
    place.write(f"{home}/{NAME}/.config/x", "x", 0o644, UID, UID)


def _closed(place: Place) -> None:
    _account(place)
    place.folder(f"/home/{NAME}/closed", 0, UID, UID)
    place.at(f"/home/{NAME}").chmod(0)


def _sticky(place: Place) -> None:
    _account(place)
    place.folder(f"/home/{NAME}/sticky", 0o1777, UID, UID)
    place.write(f"/home/{NAME}/sticky/x", "x", 0o644, UID, UID)


def _running(place: Place) -> None:
    _account(place)
    program = f"setpriv --reuid {UID} --regid {UID} --clear-groups sleep 100 >/dev/null 2>&1 & echo $! >/run/rig/ran"
    place.run("sh", "-c", program)
    place.finally_run("sh", "-c", "kill -9 $(cat /run/rig/ran) 2>/dev/null; rm /run/rig/ran; true")


def _mail(place: Place, folder: str) -> None:
    _account(place)
    place.remove("/var/mail", "/var/spool/mail")
    place.folder(folder, 0o775, 0, MAIL_GROUP)
    place.write(f"{folder}/{NAME}", "mail", 0o660, UID, MAIL_GROUP)


def _sudo(place: Place) -> None:
    place.write(SUDOERS, f"other ALL=(ALL) ALL\n{NAME} ALL=(ALL) ALL\n", 0o440)


def _is_gone(place: Place, reply: Reply) -> None:
    fact = reply.last(Committed).fact
    for file in LINES:
        assert NAME not in place.at(f"/etc/{file}").read_text(), file
    shadow = place.at("/etc/shadow").stat()
    assert (shadow.st_mode & 0o777, shadow.st_gid) == (0o640, SHADOW_GROUP)
    for folder in ("/home", *PLACES):
        for name in (NAME, f".{NAME}.agent-supervisor-removed"):
            assert not place.at(f"{folder}/{name}").exists(), f"{folder}/{name} is there: {fact}"


def _has_ended_it(place: Place, reply: Reply) -> None:
    _is_gone(place, reply)
    assert "1 processes ended" in reply.last(Committed).fact


def _has_no_mail(place: Place, reply: Reply) -> None:
    _is_gone(place, reply)
    for folder in ("/var/mail", "/var/spool/mail"):
        assert not place.at(f"{folder}/{NAME}").exists(), folder


def _is_moved(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    (line,) = [line for line in place.at("/etc/shadow").read_text().splitlines() if line.startswith(f"{NAME}:")]
    assert line.split(":")[7] == "22375"


def _may_not_sudo(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    assert place.at(SUDOERS).read_text() == "other ALL=(ALL) ALL\n"


def _is_hashed(_: Place, reply: Reply) -> None:
    assert reply.last(PasswordHashed).password_hash.reveal().startswith("$6$abcdefghij$")


def _done(_: Place, reply: Reply) -> None:
    reply.last(Committed)


def _has_failed(_: Place, reply: Reply) -> None:
    reply.last(CommitFailed)
