# SPDX-License-Identifier: Apache-2.0
"""Owns the emulated storage account at its own address: it reads and writes blobs by HTTPS, for whoever has the URL.

Runs in test processes; the caller holds the lock.
"""

from tests.fabric.answers import BYTES, Answer, Judgement, judged
from tests.fabric.wire_request import Request
from tests.fabric.wire_rules import Host

ROUTES = ("blob", "putblob")
MOST_BODY_BYTES = 32 * 1024 * 1024


class Storage:
    """What the account answers. It knows nothing of containers, secure channels and goal states."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def route(self, request: Request) -> str:
        return {"GET": "blob", "PUT": "putblob"}.get(request.method, "other")

    def judge(self, request: Request) -> Judgement:
        """Signed by its URL or refused."""
        return judged(request, self._judge)

    def _judge(self, request: Request) -> Judgement:
        trial, method = request.trial, request.method
        trial.demand("method", method in {"GET", "PUT"}, f"{method} instead of GET or PUT", 405)
        url = self._host.blobs.base + request.target
        if method == "GET":
            return Judgement(Answer(200, self._host.blobs.read(url, trial), BYTES))
        headers = {name.lower(): value for name, value in request.headers}
        effect = self._host.blobs.accept(url, headers, request.body, trial)
        return Judgement(Answer(201), effect=effect)
