# SPDX-License-Identifier: Apache-2.0
"""Owns what each injected fault does on the wire, under its name in `KINDS`.

Runs in test processes, in the thread of the connection. It decides neither whether a request is right nor which fault
meets it.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from tests.fabric.answers import REASONS, Answer

HUGE_BYTES = 8 * 1024 * 1024 + 1
ENDLESS_BYTES = 64 * 1024 * 1024  # after that much the "endless" ones end after all
BLOCK = b"x" * 65536
Header = tuple[str, str]


class Wire(Protocol):
    """What a fault may do with the client's connection. Each raises OSError when the client or the host is gone."""

    def send(self, data: bytes) -> None: ...

    def pause(self, seconds: float) -> None: ...

    def reset(self) -> None: ...

    def until_client_closes(self, seconds: float | None) -> None: ...


Play = Callable[[Wire, Answer, str, bool], bool]


class Stage(Enum):
    """When a fault strikes: instead of the host's acting, after it (the answer is lost or spoiled), or so that the
    whole answer still arrives."""

    INSTEAD = 1
    SPOILED = 2
    WHOLE = 3


def encode(answer: Answer, extra: tuple[Header, ...] = (), *, length: str | None = "", close: bool = False) -> bytes:
    """The head and body of `answer`; `length` overrides Content-Length, None leaves it out."""
    headers: list[Header] = [("Server", "Microsoft-IIS/10.0"), ("x-ms-version", "2012-11-30")]
    if answer.date:
        headers += [("Date", answer.date), ("x-ms-azure-host-date", answer.date)]
    if answer.body:
        headers.append(("Content-Type", answer.content_type))
    if length is not None:
        headers.append(("Content-Length", length or str(len(answer.body))))
    headers += [*answer.headers, *extra]
    if close:
        headers.append(("Connection", "close"))
    head = f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Status')}\r\n"
    return (head + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n").encode() + answer.body


def _filled(answer: Answer) -> Answer:
    """The answer with some body, as an empty one can't be cut."""
    return answer if answer.body else Answer(answer.status, b"<Empty>nothing to say</Empty>")


def _status(wire: Wire, _answer: Answer, argument: str, close: bool) -> bool:
    body = b"" if argument == "205" else b"<Error><Message>injected</Message></Error>"
    wire.send(encode(Answer(int(argument), body), close=close))
    return True


def _invalid_container(wire: Wire, _answer: Answer, _argument: str, close: bool) -> bool:
    body = b"<Error><Code>InvalidContainerConfiguration</Code><Message>injected</Message></Error>"
    wire.send(encode(Answer(400, body), close=close))
    return True


def _redirect(wire: Wire, _answer: Answer, argument: str, close: bool) -> bool:
    wire.send(encode(Answer(302, b"moved", "text/plain"), (("Location", argument),), close=close))
    return True


def _silence(wire: Wire, _answer: Answer, argument: str, _close: bool) -> bool:
    wire.until_client_closes(float(argument) if argument else None)
    return False


def _drop(_wire: Wire, _answer: Answer, _argument: str, _close: bool) -> bool:
    return False


def _reset(wire: Wire, _answer: Answer, _argument: str, _close: bool) -> bool:
    wire.reset()
    return False


def _reset_body(wire: Wire, answer: Answer, _argument: str, close: bool) -> bool:
    whole = _filled(answer)
    wire.send(encode(whole, close=close)[: -(len(whole.body) // 2)])
    wire.reset()
    return False


def _truncate(wire: Wire, answer: Answer, _argument: str, close: bool) -> bool:
    whole = _filled(answer)
    wire.send(encode(whole, close=close)[: -(len(whole.body) // 2)])
    return False


def _not_http(wire: Wire, _answer: Answer, argument: str, _close: bool) -> bool:
    wire.send(f"{argument}\r\n".encode())
    return False


def _delay(wire: Wire, answer: Answer, argument: str, close: bool) -> bool:
    wire.pause(float(argument))
    wire.send(encode(answer, close=close))
    return True


def _drip(wire: Wire, answer: Answer, argument: str, close: bool) -> bool:
    for byte in encode(answer, close=close):
        wire.send(bytes([byte]))
        wire.pause(float(argument))
    return True


def _close_after(wire: Wire, answer: Answer, _argument: str, _close: bool) -> bool:
    wire.send(encode(answer))
    return False


def _no_length(wire: Wire, answer: Answer, _argument: str, _close: bool) -> bool:
    wire.send(encode(answer, length=None, close=True))
    return False


def _wrong_length(length: Callable[[int], str]) -> Play:
    def play(wire: Wire, answer: Answer, _argument: str, close: bool) -> bool:
        whole = _filled(answer)
        wire.send(encode(whole, length=length(len(whole.body)), close=close))
        wire.until_client_closes(None)
        return False

    return play


def _length_two(wire: Wire, answer: Answer, _argument: str, close: bool) -> bool:
    whole = _filled(answer)
    wire.send(encode(whole, (("Content-Length", str(len(whole.body) // 2)),), close=close))
    wire.until_client_closes(None)
    return False


def _chunks(body: bytes) -> bytes:
    third = max(1, len(body) // 3)
    parts = [body[at : at + third] for at in range(0, len(body), third)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def _chunked_head(answer: Answer, *, close: bool) -> bytes:
    head = encode(Answer(answer.status), (("Transfer-Encoding", "chunked"),), length=None, close=close)
    return head[:-2] + f"Content-Type: {answer.content_type}\r\n\r\n".encode()


def _chunked(wire: Wire, answer: Answer, _argument: str, close: bool) -> bool:
    wire.send(_chunked_head(answer, close=close) + _chunks(answer.body) + b"0\r\n\r\n")
    return True


def _chunked_broken(wire: Wire, answer: Answer, argument: str, close: bool) -> bool:
    head = _chunked_head(answer, close=close)
    chunks = _chunks(_filled(answer).body)
    tails = {"size": b"zz\r\nabc\r\n0\r\n\r\n", "huge": b"ffffffffffffffff\r\nabc", "cut": b""}
    wire.send(head + chunks + tails[argument])
    return False


def _endless_headers(wire: Wire, _answer: Answer, _argument: str, _close: bool) -> bool:
    wire.send(b"HTTP/1.1 200 OK\r\n")
    line = b"x-more: " + b"y" * 118 + b"\r\n"
    for _ in range(ENDLESS_BYTES // (512 * len(line))):
        wire.send(line * 512)
    return False


def _huge(wire: Wire, answer: Answer, argument: str, close: bool) -> bool:
    wire.send(encode(Answer(answer.status), length=argument, close=close))
    left = int(argument)
    while left > 0:
        wire.send(BLOCK[:left])
        left -= len(BLOCK)
    return True


def _flood(wire: Wire, answer: Answer, _argument: str, _close: bool) -> bool:
    wire.send(encode(Answer(answer.status), length=None, close=True))
    for _ in range(ENDLESS_BYTES // len(BLOCK)):
        wire.send(BLOCK)
    return False


def _gzip(wire: Wire, answer: Answer, _argument: str, close: bool) -> bool:
    packed = Answer(answer.status, gzip.compress(answer.body), answer.content_type)
    wire.send(encode(packed, (("Content-Encoding", "gzip"),), close=close))
    return True


def _garbage_after(wire: Wire, answer: Answer, _argument: str, close: bool) -> bool:
    wire.send(encode(answer, close=close) + b"\x00\xffgarbage\r\n")
    return True


def _bomb(wire: Wire, answer: Answer, _argument: str, close: bool) -> bool:
    squeezed = Answer(answer.status, gzip.compress(b" " * ENDLESS_BYTES, 1), answer.content_type)
    wire.send(encode(squeezed, (("Content-Encoding", "gzip"),), close=close))
    return True


def _instead(made: Callable[[bytes], bytes]) -> Play:
    """A whole answer, right in every way but for what it says."""

    def play(wire: Wire, answer: Answer, _argument: str, close: bool) -> bool:
        wire.send(encode(replace(answer, body=made(_filled(answer).body)), close=close))
        return True

    return play


def _garbled(body: bytes) -> bytes:
    return bytes(byte ^ 0x55 for byte in body)


def _laughing(_body: bytes) -> bytes:
    """Entities that would be gigabytes, if anybody resolved them."""
    levels = "".join(f'<!ENTITY l{at} "{f"&l{at - 1};" * 10}">' for at in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY l0 "ha">{levels}]><l>&l9;</l>'.encode()


@dataclass(frozen=True)
class Kind:
    """A named fault: how it is played, when it strikes, the form and default of its argument, its status."""

    play: Play
    stage: Stage
    form: str = ""
    default: str = ""
    status: Callable[[str], int | None] | None = None


def _no_status(_argument: str) -> int | None:
    return None


SECONDS = r"\d+(\.\d+)?"
KINDS: dict[str, Kind] = {
    "status": Kind(_status, Stage.INSTEAD, r"[2-5]\d\d", "503", int),
    "invalid-container": Kind(_invalid_container, Stage.INSTEAD, status=lambda _: 400),
    "redirect": Kind(_redirect, Stage.INSTEAD, r"https?://\S+", "", lambda _: 302),
    "silence": Kind(_silence, Stage.INSTEAD, f"({SECONDS})?", "", _no_status),
    "drop": Kind(_drop, Stage.INSTEAD, status=_no_status),
    "reset": Kind(_reset, Stage.INSTEAD, status=_no_status),
    "not-http": Kind(_not_http, Stage.INSTEAD, r"[^\r\n]+", "220 mail.invalid ESMTP", _no_status),
    "lost": Kind(_drop, Stage.SPOILED, status=_no_status),
    "reset-body": Kind(_reset_body, Stage.SPOILED),
    "truncate": Kind(_truncate, Stage.SPOILED),
    "length-short": Kind(_wrong_length(lambda size: str(size // 2)), Stage.SPOILED),
    "length-long": Kind(_wrong_length(lambda size: str(size + 100)), Stage.SPOILED),
    "length-negative": Kind(_wrong_length(lambda _: "-1"), Stage.SPOILED),
    "length-text": Kind(_wrong_length(lambda _: "many"), Stage.SPOILED),
    "length-enormous": Kind(_wrong_length(lambda _: "9" * 30), Stage.SPOILED),
    "length-two": Kind(_length_two, Stage.SPOILED),
    "chunked-broken": Kind(_chunked_broken, Stage.SPOILED, "size|huge|cut", "size"),
    "endless-headers": Kind(_endless_headers, Stage.SPOILED),
    "huge": Kind(_huge, Stage.SPOILED, r"\d{1,10}", str(HUGE_BYTES)),
    "flood": Kind(_flood, Stage.SPOILED),
    "gzip": Kind(_gzip, Stage.SPOILED),
    "bomb": Kind(_bomb, Stage.SPOILED),
    "empty": Kind(_instead(lambda _: b""), Stage.SPOILED),
    "cut": Kind(_instead(lambda body: body[: len(body) // 2]), Stage.SPOILED),
    "garbled": Kind(_instead(_garbled), Stage.SPOILED),
    "stranger": Kind(_instead(lambda _: b"<Other><Document /></Other>"), Stage.SPOILED),
    "laughs": Kind(_instead(_laughing), Stage.SPOILED),
    "delay": Kind(_delay, Stage.WHOLE, SECONDS, "1"),
    "drip": Kind(_drip, Stage.WHOLE, SECONDS, "0.05"),
    "no-length": Kind(_no_length, Stage.WHOLE),
    "chunked": Kind(_chunked, Stage.WHOLE),
    "close-after": Kind(_close_after, Stage.WHOLE),
    "garbage-after": Kind(_garbage_after, Stage.WHOLE),
}
