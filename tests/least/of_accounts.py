# SPDX-License-Identifier: Apache-2.0
"""The jobs of account and password committer, with the distribution's own tools run by their companions."""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

from ipc.messages import CommitAccount, CommitFailed, CommitPassword, Committed, Message
from ipc.secret import Secret
from tests.least.place import Place
from tests.least.scenario import Reply, Scenario, nothing
from tests.least.shapes import with_a_real_lib, with_a_real_lib64, with_programs_in

NAME = "azureuser"
HOME = f"/home/{NAME}"
FILES = tuple(
    f"/etc/{name}{dash}" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid") for dash in ("", "-")
)
ORDER = CommitAccount(NAME, HOME, 1000)
HASH = "$6$abcdefghij$" + "x" * 86
PLACES = ("/srv", "/opt", "/export", "/data", "/var/home")
UID = 4321
LINES = {
    "passwd": f"{NAME}:x:{UID}:{UID}::{HOME}:/bin/sh",
    "shadow": f"{NAME}:!:19000:0:99999:7:::",
    "group": f"{NAME}:x:{UID}:",
    "gshadow": f"{NAME}:!::",
    "subuid": f"{NAME}:165536:65536",
    "subgid": f"{NAME}:165536:65536",
}
Prepare = Callable[[Place], None]


def scenarios() -> Iterator[Scenario]:
    yield _account("a new account")
    yield _account("a comment and a day of expiry", order=CommitAccount(NAME, HOME, 1000, "JIT", "2031-04-05"))
    for folder in PLACES:
        yield _account(f"a home in {folder}", partial(_is_there, folder=folder), folder, ORDER, folder)
    yield _account("a home that a killed run began to fill", _begun_home, "fowner")
    yield _account("what killed tools left, their number somebody else's", _leavings, "/proc")
    yield _account("a home closed to others", _closed, "dac_override")
    yield _account("an old lastlog", _lastlog, "/var/log")
    for folder in ("/var/mail", "/var/spool/mail"):
        yield _account(f"a mailbox in {folder}", partial(_mail, folder=folder), folder)
    for name in ("shadow", "group", "gshadow"):
        yield _account(f"an account without its line in {name}", partial(_half, without=name))
    yield _account("a useradd that fails half way", _failing_useradd, "userdel", failing=True)
    yield _account("hooks, and a /bin of its own", _hooks, "/bin")
    for shape in (with_a_real_lib, with_a_real_lib64):
        yield _account(_words(shape), shape, _folder(shape))
        yield _password(_words(shape), shape, _folder(shape))
    yield _password("a hash")
    yield _password("a hash, past what killed tools left", _leavings, "/proc")
    yield Scenario(
        "password", "no account", CommitPassword("nobody-here", Secret(HASH)), (CommitFailed,), _failed, _keep
    )


def _words(shape: Prepare) -> str:
    return f"a machine {shape.__name__.replace('_', ' ')}"


def _folder(shape: Prepare) -> str:
    return f"/{shape.__name__.rpartition('_')[2]}"


def _account(  # a scenario's parts
    name: str,
    prepare: Prepare = nothing,
    about: str = "",
    order: CommitAccount = ORDER,
    folder: str = "/home",
    *,
    failing: bool = False,
) -> Scenario:
    request = CommitAccount(order.user_name, f"{folder}/{NAME}", 1000, order.comment, order.expires)

    def all_of_it(place: Place) -> None:
        _keep(place)
        place.remove(request.home)
        prepare(place)

    def check(place: Place, reply: Reply) -> None:
        if failing:
            _has_taken_back(place, reply)
        else:
            _has_account(place, reply, request)

    final: tuple[type[Message], ...] = (Committed,)
    more = {"CommitFailed in provisioning"} if failing else set()
    return Scenario("account", name, request, final, check, all_of_it, about=frozenset({about, *more}))


def _password(name: str, prepare: Prepare = nothing, about: str = "") -> Scenario:
    def all_of_it(place: Place) -> None:
        _keep(place)
        for file, line in LINES.items():
            _append(place, f"/etc/{file}", line)
        prepare(place)

    return Scenario(
        "password",
        name,
        CommitPassword(NAME, Secret(HASH)),
        (Committed,),
        _has_hash,
        all_of_it,
        about=frozenset({about}),
    )


def _keep(place: Place) -> None:
    place.keep(*FILES, "/etc/.pwd.lock", "/var/log/lastlog", "/var/log/faillog", "/var/mail", "/etc/default/useradd")


def _append(place: Place, path: str, line: str) -> None:
    place.keep(path)
    with place.at(path).open("a") as file:
        file.write(f"{line}\n")


def _is_there(place: Place, folder: str) -> None:
    """Homes are made in folders that are there; below them, what is missing is made."""
    if not place.at(folder).is_dir():
        place.folder(folder)


def _begun_home(place: Place) -> None:
    """A folder of root's, as of a new file system; what a run had put into it before it was killed is the account's."""
    for file, line in LINES.items():
        _append(place, f"/etc/{file}", line)
    place.folder("/etc/skel/.config", 0o700)
    place.folder(HOME)
    place.folder(f"{HOME}/.config", 0o755, UID, UID)


def _closed(place: Place) -> None:
    text = place.at("/etc/login.defs").read_text()
    place.write("/etc/login.defs", f"{text}\nHOME_MODE 0700\n")


def _leavings(place: Place) -> None:
    """Locks of tools that were killed long ago; the number of one is now that of the lab's first process."""
    for path, text in {"/etc/passwd.lock": "1", "/etc/group.lock": "999999", "/etc/shadow.999999": ""}.items():
        place.write(path, text, 0o600)
        os.utime(place.at(path), (1e9, 1e9))


def _lastlog(place: Place) -> None:
    """A last login of the uid that the new account gets, for somebody who was there before."""
    place.write("/var/log/lastlog", b"x" * 292 * 1200, 0o664)
    place.write("/var/log/faillog", b"x" * 32 * 1200, 0o644)


def _mail(place: Place, folder: str) -> None:
    """A distribution that gives each account a mailbox."""
    place.write("/etc/default/useradd", "CREATE_MAIL_SPOOL=yes\n")
    text = place.at("/etc/login.defs").read_text()
    place.write("/etc/login.defs", text.replace("/var/mail", folder))
    place.remove("/var/mail", "/var/spool/mail")
    place.folder(folder, 0o775, 0, 8)


def _half(place: Place, without: str) -> None:
    """Useradd was killed before it had written that line."""
    for file, line in LINES.items():
        if file != without:
            _append(place, f"/etc/{file}", line)
    if "sshd:" not in place.at("/etc/shadow").read_text():
        _append(place, "/etc/shadow", "sshd:!:19000::::::")


def _failing_useradd(place: Place) -> None:
    """The program does all its work and then says that it failed."""
    place.copy("/usr/sbin/useradd", "/usr/sbin/useradd.real")
    place.write("/usr/sbin/useradd", '#!/bin/sh\n/usr/sbin/useradd.real "$@"\nexit 1\n', 0o755)


def _hooks(place: Place) -> None:
    """A machine whose shell is in a /bin of its own, and a script for each new account."""
    place.write("/etc/shadow-maint/useradd-post.d/hook", "#!/bin/sh\necho hooked >/etc/hooked\n", 0o755)
    place.keep("/etc/hooked")
    place.copy("/usr/sbin/useradd", "/usr/sbin/useradd.real")
    place.write("/usr/sbin/useradd", '#!/bin/sh\nexec /usr/sbin/useradd.real "$@"\n', 0o755)
    with_programs_in(place, "/bin", ("sh",))


def _line(place: Place, file: str) -> list[str]:
    lines = place.at(f"/etc/{file}").read_text().splitlines()
    found = [line.split(":") for line in lines if line.startswith(f"{NAME}:")]
    assert len(found) == 1, f"{len(found)} lines for {NAME} in /etc/{file}"
    return found[0]


def _has_account(place: Place, reply: Reply, request: CommitAccount) -> None:
    reply.last(Committed)
    uid = int(_line(place, "passwd")[2])
    assert _line(place, "passwd")[4] == request.comment
    assert bool(_line(place, "shadow")[7]) == bool(request.expires)
    for name in ("group", "gshadow", "subuid"):
        _line(place, name)
    home = place.at(request.home)
    assert home.stat().st_uid == uid
    names = {path.name: path.lstat().st_uid for path in home.iterdir()}
    assert names == {path.name: uid for path in place.at("/etc/skel").iterdir()}
    _is_as_useradd_leaves_it(place, uid)


def _is_as_useradd_leaves_it(place: Place, uid: int) -> None:
    shadow = place.at("/etc/shadow").stat()
    assert (stat.S_IMODE(shadow.st_mode), shadow.st_gid) == (0o640, 42)
    for path, size in (("/var/log/lastlog", 292), ("/var/log/faillog", 32)):
        if place.at(path).exists():
            assert place.at(path).read_bytes()[uid * size : (uid + 1) * size].strip(b"\0") == b"", (
                f"{path} is as it was"
            )
    if "CREATE_MAIL_SPOOL=yes" in place.at("/etc/default/useradd").read_text():
        folder = next(
            line.split()[1]
            for line in place.at("/etc/login.defs").read_text().splitlines()
            if line.startswith("MAIL_DIR")
        )
        box = place.at(f"{folder}/{NAME}").stat()
        assert (box.st_uid, box.st_gid, stat.S_IMODE(box.st_mode)) == (uid, 8, 0o660)


def _has_taken_back(place: Place, reply: Reply) -> None:
    failed = reply.last(CommitFailed)
    assert not failed.changed, failed.problem
    assert NAME not in place.at("/etc/passwd").read_text()


def _failed(_: Place, reply: Reply) -> None:
    reply.last(CommitFailed)


def _has_hash(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    assert _line(place, "shadow")[1] == HASH
    assert place.at("/etc/shadow").stat().st_gid == 42
