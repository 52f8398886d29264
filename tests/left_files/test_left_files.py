# SPDX-License-Identifier: Apache-2.0
"""What handlers leave, read by the real processes: every kind of file that is none, and files that change meanwhile."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.layout import Layout
from tests.fabric.lab import Lab
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_policy, policy_sources

pytestmark = pytest.mark.root

LIB = "/run/rig/lib"
SUPERVISOR = ('"supervisor.main"', '"tests.left_files.rig_supervisor"')
WITHOUT_CONTROLS = (
    Mutation("supervisor.extensions.left_file", "_FILE = os.O_RDONLY | os.O_NOFOLLOW", "_FILE = os.O_RDONLY"),
    Mutation("supervisor.extensions.left_file", "dir_fd=folder, follow_symlinks=False", "dir_fd=folder"),
    Mutation("supervisor.extensions.left_file", "os.O_DIRECTORY | os.O_NOFOLLOW", "os.O_DIRECTORY"),
    Mutation("supervisor.extensions.left_file", "status.st_nlink != 1", "False"),
)
# Valid, so that whoever follows a link to it tells it.
SECRET = "nobody may be told this"


def status(message: str = "well", word: str = "success", **more: Any) -> list[dict[str, Any]]:
    said = {"name": "own", "operation": "Enable", "status": word, "code": 0, **more}
    said["formattedMessage"] = {"lang": "en-US", "message": message}
    return [{"version": 1.0, "timestampUTC": "2026-01-02T03:04:05Z", "status": said}]


class Handlers:
    """Folders of handlers in the lab, and the rig that looks at them."""

    def __init__(self, lab: Lab, rig: Rig) -> None:
        self.lab = lab
        self.rig = rig
        self.lib = lab.path(LIB)

    def folder(self, handler: str) -> Path:
        path = self.lib / f"{handler}-1.0"
        (path / "status").mkdir(parents=True, exist_ok=True)
        return path

    def put(self, handler: str, content: bytes | str | list[Any], *, age_s: float = 60.0) -> Path:
        """The handler's status file, as it was written so long ago."""
        path = self.folder(handler) / "status" / "0.status"
        text = json.dumps(content) if isinstance(content, list) else content
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        os.utime(path, (time.time() - age_s,) * 2)
        return path

    def watch(self, *handlers: str, **more: Any) -> None:
        places = [{"handler": name, "version": "1.0", "sequence_number": 0, **more} for name in handlers]
        self.rig.ask("watch", lib=LIB, places=places)

    def look(self, handler: str = "", times: int = 1) -> dict[str, Any]:
        """What is found after so many looks, by handler."""
        answer = self.rig.ask("look", handler=handler, times=times)
        assert answer["violations"] == 0, answer
        found: dict[str, Any] = answer["found"]
        return found

    def parsers(self) -> int:
        """How many were begun so far."""
        lines = self.lab.path(Layout().audit_log).read_text().splitlines()
        entries = [entry for entry in map(json.loads, lines) if entry.get("kind") == "parser"]
        return sum(entry["event"] == "worker-start" for entry in entries)


@contextlib.contextmanager
def handlers_with(*mutations: Mutation) -> Iterator[Handlers]:
    """A lab and a rig, with these mutations."""
    with Lab() as lab:
        lab.path(LIB).mkdir(parents=True)
        lab.path("/run/rig/secret.json").write_text(json.dumps(status(SECRET)))
        policy = place_policy(lab, "looking", policy_sources(supervisor=SUPERVISOR))
        with Rig(lab, policy, mutations, phase="steady") as rig:
            yield Handlers(lab, rig)


@pytest.fixture(scope="module")
def handlers() -> Iterator[Handlers]:
    with handlers_with() as made:
        yield made


def test_a_status_and_a_heartbeat_are_read_once_until_they_change(handlers: Handlers) -> None:
    path = handlers.put("A.fine", status("first"))
    beat = handlers.folder("A.fine") / "heartbeat.log"
    handlers.watch("A.fine", has_heartbeat=True)
    assert "promises" in handlers.look()["A.fine"]["no_beat"]
    said = {"status": "ready", "code": 3, "formattedMessage": {"lang": "en-US", "message": "alive"}}
    beat.write_text(json.dumps([{"heartbeat": said}]))
    os.utime(beat, (time.time() - 60,) * 2)
    found = handlers.look()["A.fine"]
    assert (found["status"]["message"], found["status"]["status"]) == ("first", "success")
    assert (found["beat"], found["is_old"]) == ({"status": "ready", "code": 3, "message": "alive"}, False)
    before = handlers.parsers()
    assert handlers.look(times=20)["A.fine"] == found
    assert handlers.parsers() == before, "what had not changed was read again"
    # The same length, the same time: it is another file nevertheless.
    seen = path.stat()
    new = path.with_name("new")
    new.write_text(json.dumps(status("other")))
    os.utime(new, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
    new.rename(path)
    os.utime(beat, (time.time() - 601,) * 2)
    found = handlers.look()["A.fine"]
    assert (found["status"]["message"], found["is_old"]) == ("other", True)
    path.unlink()
    beat.write_text("no heartbeat")
    os.utime(beat, (time.time() - 60,) * 2)
    found = handlers.look()["A.fine"]
    assert (found["status"], found["beat"]) == (None, None)
    assert found["no_beat"]


def test_whatever_stands_in_a_status_files_place_is_told_as_that_handlers_error(handlers: Handlers) -> None:
    def odd(name: str) -> Path:
        return handlers.folder(name) / "status" / "0.status"

    secret = handlers.lab.path("/run/rig/secret.json")
    odd("A.linked").symlink_to("/run/rig/secret.json")
    odd("A.folder").mkdir()
    os.mkfifo(odd("A.pipe"))
    os.mknod(odd("A.device"), 0o20666, os.makedev(1, 5))
    os.link(secret, odd("A.twice"))
    with odd("A.large").open("wb") as file:
        file.truncate(1 << 30)
    handlers.put("A.deep", b"[" * 500_000)
    handlers.put("A.text", "Enable succeeded")
    handlers.put("A.object", '{"status": {}}')
    handlers.put("A.bytes", b'[{"status": "\xff\xfe"}]')
    handlers.put("A.word", [{"status": {**status()[0]["status"], "status": "splendid"}}])
    handlers.put("A.part", status(substatus=[{"name": "x", "status": "splendid"}]))
    handlers.put("A.null", status(substatus=None))
    elsewhere = handlers.lib / "elsewhere" / "status"
    elsewhere.mkdir(parents=True)
    (elsewhere / "0.status").write_text(json.dumps(status(SECRET)))
    handlers.folder("A.inner")
    (handlers.lib / "A.inner-1.0" / "status").rmdir()
    (handlers.lib / "A.inner-1.0" / "status").symlink_to("../elsewhere/status")
    (handlers.lib / "A.outer-1.0").symlink_to("elsewhere")
    handlers.folder("A.empty")
    expected = {
        "A.linked": (-1, "no regular file"),
        "A.folder": (-1, "no regular file"),
        "A.pipe": (-1, "no regular file"),
        "A.device": (-1, "no regular file"),
        "A.twice": (-1, "2 names"),
        "A.large": (1012, "1073741824 bytes"),
        "A.deep": (1012, ""),
        "A.text": (1012, "Enable succeeded"),
        "A.object": (1012, ""),
        "A.bytes": (1012, ""),
        "A.part": (1012, "substatus"),
        "A.inner": (-1, "or a link"),
        "A.outer": (-1, "or a link"),
    }
    handlers.watch(*expected, "A.word", "A.null", "A.empty", "A.absent")
    found = handlers.look(times=5)
    for name, (code, text) in expected.items():
        said = found[name]["status"]
        assert (said["status"], said["code"]) == ("error", code), (name, said)
        assert text in said["message"], (name, said)
    assert SECRET not in json.dumps(found)
    assert (found["A.word"]["status"]["status"], found["A.word"]["status"]["code"]) == ("error", 0)
    assert (found["A.null"]["status"]["status"], found["A.null"]["status"]["substatuses"]) == ("success", [])
    assert (found["A.empty"]["status"], found["A.absent"]["status"]) == (None, None)
    # Whatever it was, a status file in its place is told at the next look.
    for name in ("A.linked", "A.pipe", "A.twice", "A.large"):
        odd(name).unlink()
        handlers.put(name, status("again"))
    found = handlers.look()
    assert {found[name]["status"]["message"] for name in ("A.linked", "A.pipe", "A.twice", "A.large")} == {"again"}


def test_one_that_is_being_written_is_waited_for_and_believed_once_it_rests(handlers: Handlers) -> None:
    handlers.put("B.half", status("before"))
    handlers.watch("B.half")
    assert handlers.look()["B.half"]["status"]["message"] == "before"
    handlers.put("B.half", '[{"status": {"name": ', age_s=0)
    assert handlers.look(times=3)["B.half"]["status"]["message"] == "before"
    handlers.put("B.half", '[{"status": {"name": ')
    assert handlers.look()["B.half"]["status"]["code"] == 1012


@contextlib.contextmanager
def meanwhile(*acts: Any) -> Iterator[None]:
    """One act after the other, over and over again, until the end of the block."""
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            for act in acts:
                act()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def swapping(handlers: Handlers) -> tuple[Any, Any]:
    """Acts that put a link to the secret and a status in the same place, in turns."""
    path = handlers.put("C.swap", status("fine"))

    def linked() -> None:
        path.with_name("link").symlink_to("/run/rig/secret.json")
        path.with_name("link").rename(path)

    def fine() -> None:
        path.with_name("fine").write_text(json.dumps(status("fine")))
        path.with_name("fine").rename(path)

    return linked, fine


def test_a_file_that_is_a_link_every_other_moment_and_one_that_grows_tell_nothing_else(handlers: Handlers) -> None:
    grows = handlers.put("C.grows", status("small"))

    def grow() -> None:
        with grows.open("ab") as file:
            file.write(b" " * 4096)
        if grows.stat().st_size > 400_000:
            os.truncate(grows, 10)
            grows.write_text(json.dumps(status("small")))

    linked, fine = swapping(handlers)
    handlers.watch("C.swap", "C.grows")
    began = time.monotonic()
    with meanwhile(linked, fine, grow):
        told = {json.dumps(handlers.look(times=2)) for _ in range(8)}
    assert time.monotonic() - began < 30
    assert SECRET not in "".join(told)
    fine()
    handlers.put("C.grows", status("at rest"))
    found = handlers.look()
    assert found["C.swap"]["status"]["message"] == "fine"
    assert found["C.grows"]["status"]["message"] == "at rest"


def test_without_each_control_what_it_keeps_from_the_host_is_told() -> None:
    with handlers_with(*WITHOUT_CONTROLS) as handlers:
        linked, _ = swapping(handlers)
        linked()
        os.link(handlers.lab.path("/run/rig/secret.json"), handlers.folder("C.twice") / "status" / "0.status")
        elsewhere = handlers.lib / "elsewhere" / "status"
        elsewhere.mkdir(parents=True)
        (elsewhere / "0.status").write_text(json.dumps(status(SECRET)))
        (handlers.lib / "C.outer-1.0").symlink_to("elsewhere")
        handlers.watch("C.swap", "C.twice", "C.outer")
        found = handlers.look()
        assert [found[name]["status"]["message"] for name in ("C.swap", "C.twice", "C.outer")] == [SECRET] * 3
