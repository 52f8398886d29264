# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor log verify` and `log show`: reads the audit log's files itself, and asks no agent."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import get_args

import msgspec

from supervisor.audit_log_chain import HEAD_BYTES, HEAD_SUFFIX, Head, Record, last_of, read, read_head
from supervisor.audit_log_entry import Event
from supervisor.audit_log_mirror import PREFIX
from supervisor.audit_log_verify import File, Verdict, verify
from supervisor.cli.actions import add_actions
from supervisor.cli.printable import printable
from supervisor.layout import Layout

EXIT_WELL, EXIT_WRONG, EXIT_USAGE, EXIT_NO_PERMISSION = 0, 1, 2, 4
SHOWN = 50
EVENTS: tuple[Event, ...] = get_args(Event)
# A file may get its final name while the files are read: then once more.
TRIES = 5

EPILOG = """\
verify looks at every line: whether it is as it was written, goes on from the one before it, and whether any is missing
from the beginning, the middle or the end. That the end was cut off, or all was written anew, is told from copies of
record numbers and hashes: the head file beside the log; the journal's, with --journal; with --anchor those of lines
"the audit log is at N:HASH" in the log file or on the console. Who may write the log may write the head file, too: so
the other two count.

exit status of verify: 0 all is as it was written; 1 it is not, or there is no log; 2 wrong usage; 4 no permission to
read it.
"""


class BadWord(ValueError):
    """What was given as an event, or as a copy kept elsewhere, is none."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_actions(
        parser,
        EPILOG,
        ("verify", _configure_verify, "tell whether anything in the audit log was changed, or is missing"),
        ("show", _configure_show, "print records, the newest last"),
    )


def _configure_verify(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument(
        "--anchor", metavar="N:HASH", action="append", default=[], help="a record's number and hash, noted elsewhere"
    )
    parser.add_argument(
        "--journal", metavar="FILE", help="compare with what `journalctl -o json` printed; - is standard input"
    )
    parser.set_defaults(carry_out=lambda options: _or_complain(_verify, options))


def _configure_show(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--event", metavar="EVENT", help="only of this event (violation, commit, worker-exit, ...)")
    parser.add_argument("--kind", metavar="KIND", help="only of this kind of worker")
    parser.add_argument("-n", metavar="N", type=int, help=f"how many at most, the newest (default: {SHOWN})")
    parser.set_defaults(carry_out=lambda options: _or_complain(_show, options))


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--file", metavar="PATH", default=Layout().audit_log, help="the log's last file (default: %(default)s)"
    )


def _or_complain(action: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    try:
        return action(options)
    except PermissionError as error:
        print(f"agent-supervisor: {error.filename} can't be read: be root", file=sys.stderr)
        return EXIT_NO_PERMISSION
    except BadWord as error:
        print(f"agent-supervisor: {printable(str(error))}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"agent-supervisor: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_WRONG
    except ValueError as error:
        print(f"agent-supervisor: {error}", file=sys.stderr)
        return EXIT_WRONG


def _verify(options: argparse.Namespace) -> int:
    anchors = _anchors(options)
    # The head before the log: the log only ever grows, so that a running agent's is never found cut off.
    head = _head(options.file)
    verdict = verify(_files(options.file), head, anchors)
    if options.json:
        print(json.dumps({"good": verdict.is_good, **msgspec.to_builtins(verdict)}))
    else:
        print("\n".join(_told(verdict)))
    return EXIT_WELL if verdict.is_good else EXIT_WRONG


def _told(verdict: Verdict) -> Iterator[str]:
    for finding in verdict.findings:
        place = f"{finding.file}, line {finding.line}" if finding.line else finding.file
        which = f" record {finding.seq}" if finding.seq else ""
        yield printable(f"{finding.wrong}: {place}:{which} {finding.text}")
    for note in verdict.notes:
        yield printable(f"note: {note}")
    counted = f"{verdict.records} records, {verdict.first} to {verdict.last}" if verdict.records else "no record"
    kept = f"{verdict.anchors} copies kept elsewhere"
    if verdict.is_good:
        yield f"the audit log is as it was written: {counted}; it is at {verdict.last}:{verdict.last_hash}; {kept}"
    else:
        yield f"the audit log is NOT as it was written: findings: {len(verdict.findings)}, in {counted}; {kept}"


def _show(options: argparse.Namespace) -> int:
    if options.event is not None:
        _refuse_unknown(options.event)
    chosen: list[tuple[bytes, Record | None]] = []
    for file in _files(options.file):
        for text in file.content.splitlines(keepends=True):
            record = read(text)
            if _is_wanted(record, options):
                chosen.append((text, record))
    most = SHOWN if options.n is None else options.n
    for text, record in chosen[-most:] if most > 0 else ():
        print(text.decode("utf-8", "replace").rstrip("\n") if options.json else printable(_line(text, record)))
    # Whoever has named a number knows that there may be more.
    if options.n is None and len(chosen) > SHOWN:
        print(f"agent-supervisor: {len(chosen) - SHOWN} earlier ones are not shown; -n N shows more", file=sys.stderr)
    return EXIT_WELL


def _refuse_unknown(event: str) -> None:
    """BadWord for an event that no record has."""
    if event not in EVENTS:
        near = get_close_matches(event, EVENTS)
        told = f"is {' or '.join(near)} meant?" if near else f"there are {', '.join(EVENTS)}"
        raise BadWord(f"there is no event {event}; {told}")


def _is_wanted(record: Record | None, options: argparse.Namespace) -> bool:
    if record is None:
        return not (options.event or options.kind)
    return options.event in {None, record.event} and options.kind in {None, record.kind}


def _line(text: bytes, record: Record | None) -> str:
    if record is None:
        return f"(no record: {text.decode('utf-8', 'replace').rstrip()[:200]})"
    asker = f"uid {record.uid} pid {record.pid}" if record.event == "control" else ""
    about = f"{record.first} to {record.last}" if record.last else ""
    words = [record.event, record.worker or record.kind, asker, record.request, record.decision, about]
    ends = [record.digest, f"without {', '.join(record.missing)}" if record.missing else "", record.detail]
    return f"{record.seq:6} {record.time} {' '.join(word for word in [*words, *ends] if word)}"


def _files(path: str) -> list[File]:
    """The log's files, oldest first; FileNotFoundError when there are none."""
    folder, name = os.path.split(os.path.abspath(path))
    names: list[str] = []
    files: list[File] = []
    for _ in range(TRIES):
        names = _complete(folder, name)
        files = [file for each in [*names, path] if (file := _file(each)) is not None]
        if names == _complete(folder, name):
            break
    if not files:
        raise FileNotFoundError(errno.ENOENT, "there is no audit log", path)
    return files


def _complete(folder: str, name: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such folder, and no audit log in it", folder) from None
    return [f"{folder}/{each}" for each in sorted(names) if last_of(each, name) is not None]


def _file(path: str) -> File | None:
    """None for one that is not there: between two files there is none of the log's own name for a moment."""
    try:
        with open(path, "rb") as file:
            return File(path, file.read())
    except FileNotFoundError:
        return None


def _head(path: str) -> Head | None:
    try:
        with open(f"{path}{HEAD_SUFFIX}", "rb") as file:
            return read_head(file.read(HEAD_BYTES))
    except FileNotFoundError:
        return None


def _anchors(options: argparse.Namespace) -> dict[int, frozenset[str]]:
    """Hashes by record number, from the command line and the journal. ValueError for a malformed one."""
    found: dict[int, frozenset[str]] = {}
    pairs = [_anchor(text) for text in options.anchor]
    if options.journal == "-":
        pairs += _of_journal(sys.stdin)
    elif options.journal is not None:
        with open(options.journal, encoding="utf-8", errors="replace") as file:
            pairs += _of_journal(file)
    for seq, digest in pairs:
        found[seq] = found.get(seq, frozenset()) | {digest}
    return found


def _anchor(text: str) -> tuple[int, str]:
    seq, _, digest = text.partition(":")
    if not seq.isdecimal() or len(digest) != 64:
        raise BadWord(f"{text} is no anchor: expected a record's number, a colon and its hash of 64 digits")
    return int(seq), digest


def _of_journal(lines: Iterable[str]) -> list[tuple[int, str]]:
    """Of all that the journal has, what a process of root's said: others may use the same fields."""
    entries = (json.loads(line) for line in lines if line.strip())
    ours = (one for one in entries if one.get("_UID") == "0" and one.get(f"{PREFIX}HASH"))
    return [(int(one[f"{PREFIX}SEQ"]), one[f"{PREFIX}HASH"]) for one in ours]
