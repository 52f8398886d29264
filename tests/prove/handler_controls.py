# SPDX-License-Identifier: Apache-2.0
"""Owns the controls of handlers' classes, each with what takes it away, and what a command then comes by.

A control is taken away where it is: in a lab one of our files has another in its place, and `prove` runs there.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.fabric.lab import PROJECT, PlacedFile
from tests.fabric.systemd_lab import SystemdLab

VIEW, START = "supervisor/jail/handler_view.py", "workers/committers/handler_start.py"
INSIDE, READER = "supervisor/jail/handler_contained.py", "supervisor/extensions/left_file.py"
PROGRAM = f"{PROJECT}/.venv/bin/agent-supervisor"
# Something of everything that there is to reach.
FILES: dict[str, bytes | PlacedFile] = {
    "/var/lib/agent-supervisor/journal": b"ours\n",
    "/var/lib/agent-supervisor/handlers/One.json": b"{}\n",
}


class Control(NamedTuple):
    """In `file`, the one place that reads `old` reads `new`; `behind` are controls that are left out before it."""

    handler_class: str
    file: str
    old: str
    new: str
    behind: tuple[str, ...] = ()


def _property(name: str, *behind: str) -> Control:
    return Control("contained", START, f'    "{name}",\n', "", behind)


CONTROLS = {
    "cover of others' folders": Control(
        "compat", VIEW, '        mounts.cover((f"/proc/self/fd/{place}",))\n', "        pass\n"
    ),
    "cover of others' keys": Control("compat", VIEW, 'SECRET_ENDS = (".prv", ', "SECRET_ENDS = ("),
    "cover of the agent's folders": Control(
        "compat", VIEW, "            mounts.cover((path,))\n", "            pass\n"
    ),
    "without sys_ptrace": Control("compat", "policy/extensions.py", 'WITHOUT = ("sys_ptrace", ', "WITHOUT = ("),
    "files alone are read": Control(
        "compat", READER, "    if not stat.S_ISREG(status.st_mode):\n", "    if stat.S_ISDIR(status.st_mode):\n"
    ),
    "small files are read": Control("compat", READER, "        if before.size > most_bytes:\n", "        if False:\n"),
    "account of its own": Control(
        "contained",
        INSIDE,
        "    os.setresuid(order.uid, order.uid, order.uid)\n",
        "    os.setresuid(0, 0, 0)\n",
    ),
    "RestrictNamespaces": _property("RestrictNamespaces=yes"),
    "RestrictSUIDSGID": _property("RestrictSUIDSGID=yes"),
    "RestrictAddressFamilies": _property("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"),
    "no io_uring": _property("SystemCallFilter=~io_uring_setup io_uring_enter io_uring_register"),
    "ProtectSystem": _property("ProtectSystem=strict", "account of its own"),
    "ProtectControlGroups": _property("ProtectControlGroups=yes", "account of its own", "ProtectSystem"),
    "empty Lib.Dir": Control(
        "contained",
        START,
        '    yield f"TemporaryFileSystem={own.lib}:mode=0755"\n',
        "",
        ("account of its own",),
    ),
    "systemd out of reach": Control(
        "contained",
        START,
        '    "InaccessiblePaths=-/run/dbus -/run/systemd/private -/var/lib/agent-supervisor",\n',
        "",
        ("account of its own",),
    ),
    "empty /run/agent-supervisor": _property(
        "TemporaryFileSystem=/run/agent-supervisor:mode=0755", "account of its own"
    ),
}


@contextmanager
def lab() -> Iterator[SystemdLab]:
    """One in which handlers' classes can be proven."""
    with SystemdLab(FILES) as made:
        # As on a machine: in what it takes for a container systemd leaves that to whoever made it.
        made.output("mount", "--make-rshared", "/")
        made.output("mkdir", "-p", "/run/mutants")
        yield made


def wrong(lab: SystemdLab, name: str, cases: Sequence[str]) -> list[str]:
    """Those of `cases` that are otherwise than expected without that control, and those before it; none: of all."""
    return _wrong(lab, CONTROLS[name].handler_class, (*CONTROLS[name].behind, name), cases)


def alone_stops(lab: SystemdLab, name: str) -> list[str]:
    """What is otherwise without that control, and was not with it alone."""
    behind = CONTROLS[name].behind
    after = wrong(lab, name, ())
    before = _wrong(lab, CONTROLS[name].handler_class, behind, after) if behind and after else []
    return [case for case in after if case not in before]


def _wrong(lab: SystemdLab, handler_class: str, names: Sequence[str], cases: Iterable[str]) -> list[str]:
    with without(lab, names):
        found = proven(lab, handler_class, *(word for case in cases for word in ("--case", case)))
    # "not applicable" is neither.
    states = {"reached": "refused", "refused": "reached"}
    return list(
        dict.fromkeys(
            each["id"] for each in found["handlers"]["cases"] if states.get(each["state"]) == each["expected"]
        )
    )


def proven(lab: SystemdLab, *words: str) -> dict[str, Any]:
    """What `prove --json` says; its exit status is held against that."""
    done = lab.run([PROGRAM, "prove", "--json", *words], timeout_s=120)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == int(not found["holds"]), done.stderr
    return found


@contextmanager
def without(lab: SystemdLab, names: Sequence[str]) -> Iterator[None]:
    """While these controls are not in our own files."""
    texts: dict[str, str] = {}
    for control in (CONTROLS[name] for name in names):
        text = texts.get(control.file) or (PROJECT / control.file).read_text(encoding="utf-8")
        assert text.count(control.old) == 1, f"{control.file} has {control.old!r} {text.count(control.old)} times"
        texts[control.file] = text.replace(control.old, control.new)
    try:
        for number, (file, text) in enumerate(texts.items()):
            lab.write(f"/run/mutants/{number}.py", text.encode())
            lab.output("mount", "--bind", f"/run/mutants/{number}.py", str(PROJECT / file))
        yield
    finally:
        for file in texts:
            lab.run(["umount", str(PROJECT / file)])
