# SPDX-License-Identifier: Apache-2.0
"""The log sink: what it lets through, what it holds back, and that nothing stops or raises in it."""

import os
import re
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.secret import Secret
from supervisor.log import Log, Rate
from supervisor.outlets import LINE_BYTES, FileOutlet, Outlet, StreamOutlet, is_journal
from supervisor.redaction import REMOVED, Redactor

CANARY = "c4n4ryXYZZY"


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0625 + self.now


def log_to(*outlets: Outlet, rate: Rate | None = None, clock: HandClock | None = None) -> Log:
    return Log(clock or HandClock(), outlets, Redactor(), rate=rate)


def test_a_line_has_time_level_process_and_text(tmp_path: Path) -> None:
    log = log_to(FileOutlet(tmp_path / "log"))
    log.of("supervisor").info("started")
    log.of("worker parser.0").error("two\nlines \x1b[2J \u202e \\ é")
    log.of("supervisor").verbose("not wanted")
    log.verbose = True
    log.of("supervisor").verbose("wanted")
    assert (tmp_path / "log").read_text().splitlines() == [
        "2023-11-14T22:13:20.062Z INFO supervisor started",
        r"2023-11-14T22:13:20.062Z ERROR worker-parser.0 two\nlines \x1b[2J \u202e \\ \xe9",
        "2023-11-14T22:13:20.062Z VERBOSE supervisor wanted",
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://a.blob.core.windows.net/c/b?sv=2019-02-02&se=2030&sr=b&sp=r&sig={CANARY}%2B%3D HTTP/1.1",
        f"https://a.blob.core.windows.net/c/b?sig={CANARY}",
        f"https://a/b?se=1&amp;sig={CANARY}&amp;sp=r",
        f'{{"url": "https://a/b?se=1\\u0026sig={CANARY}\\u0026sp=r"}}',
        f"https%3A%2F%2Fa%2Fb%3Fse%3D1%26sig%3D{CANARY}%26sp%3Dr",
        f"the token se=1&sig={CANARY} alone",
        f"https://a/b?sv=2019&se={CANARY}&x=1",
        f"<UserPassword>{CANARY} with blanks</UserPassword>",
        f'<wa:UserPassword xml:space="preserve">{CANARY}\n{CANARY}</wa:UserPassword>',
        f"<UserPassword>{CANARY} cut off",
        f"&lt;UserPassword&gt;{CANARY}&lt;/UserPassword&gt;",
        f"useradd password={CANARY} done",
        f"Password = '{CANARY} with {CANARY}' done",
        f'password="{CANARY} \\" {CANARY}" done',
        f'password="open end {CANARY}',
        f"{{'adminPassword': '{CANARY}', 'a': 1}}",
        f'{{"password" : "{CANARY} {CANARY}"}}',
        f'"{{\\"password\\": \\"{CANARY} {CANARY}\\"}}"',
        f"AccountKey={CANARY}==;EndpointSuffix=core",
        f"proxy http://user:{CANARY}@proxy:3128/",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n{CANARY}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\\n{CANARY}\\n",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}",
        f"azureuser:$6$rounds=5000${CANARY}$a/b.{CANARY}:19000:0:99999",
        f"$y$j9T${CANARY}${CANARY}",
        f"$1${CANARY}${CANARY}",
        f"$2a$05${CANARY}",
    ],
)
def test_canary_no_known_form_of_a_secret_reaches_the_file(tmp_path: Path, text: str) -> None:
    log = log_to(FileOutlet(tmp_path / "log"))
    log.of("supervisor").info(f"before {text}")
    written = (tmp_path / "log").read_text()
    assert CANARY not in written
    assert REMOVED in written
    assert "before" in written


def test_redaction_leaves_the_rest_readable() -> None:
    clean = Redactor().clean
    for text in (
        "GET http://168.63.129.16/machine?comp=goalstate",
        "line 3: Provisioning.PasswordCryptId = '9' is not one of 1, 2a, 5, 6",
        "password authentication -> off",
        "the password of azureuser was set",
        "cost $5 and $6",
        "-----BEGIN CERTIFICATE-----",
    ):
        assert clean(text) == text
    assert clean("a https://h/p?sig=x&y=1 b") == f"a https://h/p?{REMOVED} b"
    assert clean("<UserPassword>x</UserPassword>") == f"<UserPassword>{REMOVED}</UserPassword>"


SECRETS = st.text(alphabet=st.characters(codec="utf-8"), min_size=4, max_size=40).filter(
    # A text that the mark in its place itself contains can't be seen to be gone.
    lambda text: text not in REMOVED
)


@given(SECRETS)
def test_a_registered_text_is_taken_out_in_every_form_it_is_quoted_in(secret: str) -> None:
    redactor = Redactor()
    forget = redactor.register(secret)
    xml = secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for form in (secret, xml, quote(secret, safe=""), secret.encode("unicode_escape").decode()):
        assert redactor.clean(f"|{form}|") == f"|{REMOVED}|"
    assert secret not in redactor.clean(f"useradd: {secret}: bad\nagain {secret}{secret}")
    forget()
    forget()
    assert redactor._pattern is None


def test_two_registrations_of_one_text_need_two_ends_and_the_longer_goes_first() -> None:
    redactor = Redactor()
    ends = [redactor.register("hunter22"), redactor.register("hunter22"), redactor.register("hunter22-long")]
    assert redactor.clean("x hunter22-long y hunter22") == f"x {REMOVED} y {REMOVED}"
    ends[0]()
    ends[0]()
    assert "hunter22" not in redactor.clean("hunter22")
    ends[1]()
    assert redactor.clean("hunter22 hunter22-long") == f"hunter22 {REMOVED}"
    short = redactor.register("ab")
    assert redactor.clean("cab ab abc") == f"cab {REMOVED} abc"
    short()
    redactor.register("")
    assert redactor.clean("plain") == "plain"
    assert redactor.clean(f"{Secret(CANARY)} {Secret(CANARY)!r}") == "<secret> <secret>"


PIECES = [
    "?",
    "sig=",
    "<Password>",
    "password=",
    'password="',
    '"',
    "$6$",
    "//a:",
    "-----BEGIN PRIVATE KEY",
    "a.",
    "\\",
]


@pytest.mark.parametrize("piece", PIECES)
def test_redaction_takes_time_in_proportion(piece: str) -> None:
    redactor = Redactor()
    started = time.process_time()
    redactor.clean(piece * (64 * 1024 // len(piece)))
    assert time.process_time() - started < 1.0


def test_lines_are_bounded_and_an_endless_text_is_not_looked_into(tmp_path: Path) -> None:
    log = log_to(FileOutlet(tmp_path / "log"))
    log.of("p" * 500).info("é" * 30_000)
    log.of("p").info("x" * 1_000_000)
    first, second = (tmp_path / "log").read_text().splitlines()
    assert len(first) < LINE_BYTES
    assert re.search(r"\.\.\. \(\+\d+\)$", first)
    assert second.endswith("(a text of 1000000 characters is not shown)")


def test_a_flood_is_cut_per_source_and_counted(tmp_path: Path) -> None:
    clock = HandClock()
    log = log_to(FileOutlet(tmp_path / "log"), rate=Rate(burst=3, per_s=1.0), clock=clock)
    for number in range(10):
        log.of("noisy").info(f"n{number}")
    log.of("quiet").info("heard")
    clock.now = 2.0
    log.of("quiet").info("heard again")
    log.of("noisy").info("n10")
    log.of("noisy").info("n11")
    log.close()
    texts = [line.split(" ", 2)[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert texts == [
        *("noisy n0", "noisy n1", "noisy n2", "quiet heard"),
        *("noisy suppressed 7 lines", "quiet heard again", "noisy n10", "noisy suppressed 1 lines"),
    ]


def test_a_million_sources_do_not_fill_memory() -> None:
    log = log_to(rate=Rate(burst=1, per_s=1000.0), clock=(clock := HandClock()))
    for number in range(2000):
        clock.now += 0.01
        log.of(f"worker.{number}").info("x")
    assert len(log._budgets) <= 300


def test_the_file_is_private_and_an_open_one_is_made_so(tmp_path: Path) -> None:
    log_to(FileOutlet(tmp_path / "new")).of("p").info("x")
    assert (tmp_path / "new").stat().st_mode & 0o137 == 0
    old = tmp_path / "old"
    old.write_text("of another agent\n")
    old.chmod(0o666)
    log_to(FileOutlet(old)).of("p").info("x")
    assert old.stat().st_mode & 0o777 == 0o600
    assert old.read_text().startswith("of another agent\n2023")


def test_rotation_is_followed_without_an_open_for_each_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    outlet = FileOutlet(path)
    voice = log_to(outlet).of("p")
    voice.info("one")
    descriptor = outlet._descriptor
    voice.info("two")
    assert outlet._descriptor == descriptor
    path.rename(tmp_path / "log.1")
    voice.info("three")
    path.unlink()
    voice.info("four")
    path.rename(tmp_path / "log.2")
    path.write_text("")
    voice.info("five")
    assert (tmp_path / "log.1").read_text().count("\n") == 2
    assert (tmp_path / "log.2").read_text().endswith(" four\n")
    assert path.read_text().endswith(" five\n")
    os.truncate(path, 0)  # what copytruncate does
    voice.info("six")
    assert path.read_text().endswith(" six\n")
    assert path.read_bytes()[:1] != b"\0"


def test_while_the_path_is_out_of_reach_lines_are_counted_and_told_of_later(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    voice = log_to(FileOutlet(folder / "log")).of("p")
    voice.info("one")
    voice.info("two")
    folder.mkdir()
    voice.info("three")
    lost, three = (folder / "log").read_text().splitlines()
    assert lost.endswith("WARNING p 2 lines were lost here: No such file or directory")
    assert three.endswith("INFO p three")


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device"])
def test_what_is_no_regular_file_gets_no_line_and_holds_nothing_up(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    (tmp_path / "victim").write_text("")
    if kind == "link":
        path.symlink_to(tmp_path / "victim")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    outlet = FileOutlet(Path("/dev/null") if kind == "device" else path)
    log_to(outlet).of("p").info("x")
    assert outlet.lost == 1
    assert (tmp_path / "victim").read_text() == ""


def test_a_full_disk_drops_lines_and_says_so_when_there_is_room_again(tmp_path: Path) -> None:
    """The limit on a file's size stands for the full disk: a write is first cut short, then refused."""
    path = tmp_path / "log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    voice = log_to(FileOutlet(path)).of("p")
    voice.info("first")
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        voice.info("torn")
        voice.info("refused")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    voice.info("again")
    lines = path.read_text().splitlines()
    assert len(lines) == 4
    assert lines[1] == "2023-11-14"
    assert "WARNING p 2 lines were lost here: File too large" in lines[2]
    assert lines[3].endswith("INFO p again")


def test_standard_error_is_plain_or_marked_for_the_journal() -> None:
    for journal, expected in ((True, b"<4>p text\n"), (False, b"2023-11-14T22:13:20.062Z WARNING p text\n")):
        reader, writer = socket.socketpair()
        with reader, writer:
            log_to(StreamOutlet(writer.fileno(), journal=journal)).of("p").warning("text")
            assert reader.recv(4096) == expected
            facts = os.fstat(writer.fileno())
            right = {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
            assert is_journal(right, writer.fileno())
            assert not is_journal(right, reader.fileno())
            assert not is_journal({"JOURNAL_STREAM": "x:²"}, writer.fileno())
            assert not is_journal({}, writer.fileno())


def test_a_reader_that_is_asleep_or_gone_never_holds_the_sink_up() -> None:
    reader, writer = os.pipe()
    outlet = StreamOutlet(writer, journal=False)
    log = log_to(outlet, rate=Rate(burst=5000))
    for _ in range(500):
        log.of("p").info("x" * 3000)  # far more than a pipe holds, and nobody reads
    assert outlet.lost > 400
    held = os.read(reader, 1 << 20)
    log.of("p").info("awake")
    assert b"lines were lost here: nobody reads" in (told := os.read(reader, 1 << 20))
    assert told.endswith(b"INFO p awake\n")
    assert held.endswith(b"x\n")
    os.close(reader)
    log.of("p").info("gone")
    assert outlet.lost == 1
    os.close(writer)


def test_the_sink_loads_none_of_the_heavy_modules() -> None:
    code = "import supervisor.log, sys; print(*sorted({'logging', 'asyncio', 'ssl', 'argparse'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
