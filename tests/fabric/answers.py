# SPDX-License-Identifier: Apache-2.0
"""Owns what the emulated host's services answer with: an answer, and the judgement that leads to it.

Runs in test processes. Judging changes nothing: a judgement carries its effect with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.fabric.wire_book import Refusal
from tests.fabric.wire_request import Request

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    205: "Reset Content",
    206: "Partial Content",
    302: "Found",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(frozen=True)
class Answer:
    """A status and a body as the host means them; faults may put something else on the wire. `date`: by its clock."""

    status: int
    body: bytes = b""
    content_type: str = "text/xml; charset=utf-8"
    date: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Judgement:
    """The answer to a request, rule and reason of a refusal (empty when accepted), and what accepting it changes."""

    answer: Answer
    why: str = ""
    rule: str = ""
    effect: Callable[[], None] = lambda: None


def judged(request: Request, judge: Callable[[Request], Judgement]) -> Judgement:
    """What `judge` says of `request`, unless it is none already; a refusal, if it raises one."""
    try:
        if request.refusal is not None:
            raise request.refusal
        return judge(request)
    except Refusal as refusal:
        return refused(refusal)


def refused(refusal: Refusal) -> Judgement:
    """A refusal whose reason is in the answer's body as well."""
    reason = f"refused: {refusal.why}"
    body = reason.encode(errors="backslashreplace")
    return Judgement(Answer(refusal.status, body, TEXT), reason, refusal.rule)
