# SPDX-License-Identifier: Apache-2.0
"""Owns one transfer: requests to one destination, by a proxy or directly, their answers read within limits.

Runs in the storage worker. It follows no redirect, takes no compressed content, and never skips a certificate.
"""

import fcntl
import hashlib
import os
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from ipc.descriptors import SEALS
from ipc.messages import Way
from workers.storage.destination import Destination, addresses, check_literal
from workers.storage.failure import TransferError
from workers.storage.trust import Trust

# As the WireServer client has it, and the reference.
CONNECT_S, SILENCE_S = 10.0, 10.0
PIECE_BYTES = 64 * 1024
LONGEST_REASON = 300
OK, CREATED = 200, 201


class Fetched(NamedTuple):
    """`descriptor` is of the file with `size` bytes; `sha256` in hex."""

    descriptor: int
    size: int
    sha256: str


class Transfer:
    """Requests by one `way`. Errors: TransferError, without a query in its text."""

    def __init__(self, way: Way, trust: Trust) -> None:
        self._way = way
        self._trust = trust
        self._timeout = urllib3.Timeout(connect=CONNECT_S, read=SILENCE_S)

    def fetch(self, where: Destination, most_bytes: int) -> Fetched:
        """All that stands at `where`, if that is not more than `most_bytes`, in a sealed memfd."""
        # Of what comes to nothing it is closed with the process, which ends with this.
        descriptor = os.memfd_create("blob", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fetched = self.fetch_into(where, most_bytes, descriptor)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        return fetched

    def fetch_into(self, where: Destination, most_bytes: int, descriptor: int) -> Fetched:
        """The same in the file behind `descriptor`, from its beginning."""
        response = self._send("GET", where, {}, None)
        try:
            return _receive(response, where, most_bytes, descriptor)
        except (HTTPError, OSError, ValueError) as error:
            raise TransferError(f"GET {where.shown}: {_reason(error, where)}") from None
        finally:
            response.close()

    def put(self, where: Destination, headers: Mapping[str, str], content: bytes) -> None:
        """Have `content` stored at `where`: status 201, or TransferError."""
        response = self._send("PUT", where, headers, content)
        status = response.status
        response.close()
        if status != CREATED:
            raise TransferError(f"PUT {where.shown}: HTTP status {status}, 201 is expected", status)

    def _send(
        self, method: str, where: Destination, headers: Mapping[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        check_literal(where.host, self._way.wireserver)
        fields = {"Host": where.authority, "User-Agent": self._way.user_agent, "Accept-Encoding": "identity", **headers}
        given: dict[str, Any] = {
            "headers": fields, "body": body, "redirect": False, "retries": False, "preload_content": False,
            "decode_content": False,
        }  # fmt: skip
        go = self._by_proxy if self._way.proxy_host else self._directly
        try:
            try:
                return go(method, where, given)
            except SSLError as error:
                if not _is_unknown(error) or not self._trust.complete():
                    raise
                return go(method, where, given)
        except (HTTPError, OSError, ValueError) as error:
            raise TransferError(f"{method} {where.shown}: {_reason(error, where)}") from None

    def _directly(self, method: str, where: Destination, given: Mapping[str, Any]) -> urllib3.BaseHTTPResponse:
        """At the first of its addresses that can be connected to."""
        problem: HTTPError | None = None
        for address in addresses(where.host, where.port, self._way.wireserver):
            try:
                return self._pool(where, address).urlopen(method, where.target, **given)
            except (ConnectTimeoutError, NewConnectionError) as error:
                problem = error
        raise problem or TransferError(f"{where.host} has no address")

    def _pool(self, where: Destination, address: str) -> urllib3.HTTPConnectionPool:
        if where.scheme == "http":
            return urllib3.HTTPConnectionPool(address, where.port, timeout=self._timeout)
        # The certificate is for the name, not for the address that it was looked up as.
        return urllib3.HTTPSConnectionPool(
            address, where.port, timeout=self._timeout, ssl_context=self._trust.context, server_hostname=where.host
        )

    def _by_proxy(self, method: str, where: Destination, given: Mapping[str, Any]) -> urllib3.BaseHTTPResponse:
        """By a tunnel for https, so that the proxy sees a name and a port; http as it is. It looks the name up."""
        way = self._way
        address = addresses(way.proxy_host, way.proxy_port, way.wireserver, own=True)[0]
        proxy = f"http://[{address}]:{way.proxy_port}" if ":" in address else f"http://{address}:{way.proxy_port}"
        manager = urllib3.ProxyManager(proxy, timeout=self._timeout, ssl_context=self._trust.context)
        return manager.urlopen(method, f"{where.scheme}://{where.authority}{where.target}", **given)


def _is_unknown(error: SSLError) -> bool:
    """Whether nothing was sent because nobody who is known here vouches for the other end."""
    return bool(error.args) and isinstance(error.args[0], ssl.SSLCertVerificationError)


def _receive(response: urllib3.BaseHTTPResponse, where: Destination, most_bytes: int, descriptor: int) -> Fetched:
    _check_head(response, where, most_bytes)
    digest = hashlib.sha256()
    size = 0
    for piece in response.stream(PIECE_BYTES, decode_content=False):
        if size + len(piece) > most_bytes:
            raise _too_long(where, most_bytes)
        digest.update(piece)
        _write(descriptor, piece, size)
        size += len(piece)
    return Fetched(descriptor, size, digest.hexdigest())


def _check_head(response: urllib3.BaseHTTPResponse, where: Destination, most_bytes: int) -> None:
    """Whether what follows is the whole blob, and its end can be told from a connection that was cut."""
    if response.status != OK:
        raise TransferError(f"GET {where.shown}: HTTP status {response.status}, 200 is expected", response.status)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise TransferError(f"GET {where.shown}: the answer is encoded ({encoding[:32]!r}), which was not asked for")
    length = response.headers.get("Content-Length", "")
    chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
    if chunked == bool(length) or (length and not length.isdecimal()):
        raise TransferError(f"GET {where.shown}: how long the answer is, is not told in one way")
    if length and int(length) > most_bytes:
        raise _too_long(where, most_bytes)


def _too_long(where: Destination, most_bytes: int) -> TransferError:
    return TransferError(f"GET {where.shown}: the answer is longer than {most_bytes} bytes")


def _write(descriptor: int, piece: bytes, at: int) -> None:
    view = memoryview(piece)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def _reason(error: Exception, where: Destination) -> str:
    """What went wrong, in one line; a library may have put the request's target into it."""
    text = str(error).partition("\n")[0]
    query = where.target.partition("?")[2]
    return (text.replace(query, "…") if query else text)[:LONGEST_REASON]
