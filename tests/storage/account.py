# SPDX-License-Identifier: Apache-2.0
"""A storage account that behaves as the path says: whole, cut short, endless, elsewhere; and a proxy in front of it.

Runs in a lab as `python -m tests.storage.account FOLDER`: it writes each request's head into FOLDER/requests, and
FOLDER/ready once it listens.
"""

import errno
import json
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path

from tests.fabric.acceptor import Acceptor
from tests.fabric.authority import IDENTITY, server_context
from tests.fabric.proxy import Proxy
from tests.fabric.surroundings import PROXY, PROXY_PORT, STORAGE

WIRESERVER = "168.63.129.16"
# The instance metadata, on the link.
METADATA = "169.254.169.254"
# Where names can be asked for; the account's address of IPv6 (both of the documentation's networks).
NAME_SERVER, SIXTH = "203.0.113.53", "2001:db8::10"
BLOB = bytes(range(256)) * 1000
STRANGER = "/etc/strange-storage.pem"
PATIENCE_S = 20.0


def whole(content: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """An answer of known length."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *fields, "", ""]).encode() + content


def chunked(content: bytes, *, end: bytes = b"0\r\n\r\n") -> bytes:
    """The same in chunks, with that end."""
    pieces = (content[start : start + 5000] for start in range(0, len(content), 5000))
    return (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
        + end
    )


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# What a GET of each path is answered by.
ANSWERS = {
    "/whole": whole(BLOB),
    "/empty": whole(b""),
    "/chunked": chunked(BLOB),
    "/truncated": whole(BLOB)[:-1],
    "/cut-chunks": chunked(BLOB, end=b"")[:-300],
    "/no-length": b"HTTP/1.1 200 OK\r\n\r\n" + BLOB,
    "/two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    "/encoded": whole(b"\x1f\x8b", "Content-Encoding: gzip"),
    "/elsewhere": whole(b"", f"Location: http://{WIRESERVER}/", status="302 Found"),
    "/moved": whole(b"", "Location: /whole", status="307 Temporary Redirect"),
    "/gone": whole(b"<Error><Code>BlobNotFound</Code></Error>", status="404 The specified blob does not exist."),
    "/nonsense": b"220 mail.storage.test ESMTP\r\n",
    "/long-head": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000,
}


class Noting(Proxy):
    """A proxy that writes down whom it connects, in FOLDER/proxied."""

    def __init__(self, address: tuple[str, int], folder: Path) -> None:
        super().__init__(address)
        self._proxied = folder / "proxied"

    def _serve(self, client: socket.socket) -> None:
        try:
            super()._serve(client)
        finally:
            self._proxied.write_text("".join(f"{each}\n" for each in self.connected))


class Account:
    """All that listens, and the record of what came."""

    def __init__(self, folder: Path) -> None:
        self._record = (folder / "requests").open("a", buffering=1)
        self._lock = threading.Lock()
        # Nobody sets it: it is there to be waited for.
        self._silence = threading.Event()
        places: list[tuple[tuple[str, int], ssl.SSLContext | None]] = [
            ((STORAGE, 443), server_context(Path(IDENTITY))),
            ((STORAGE, 444), server_context(Path(STRANGER))),
            ((STORAGE, 80), None),
            ((WIRESERVER, 80), None),
        ]
        if _is_here(SIXTH):
            places.append(((SIXTH, 443), server_context(Path(IDENTITY))))
        if _is_here(METADATA):
            places.append(((METADATA, 80), None))
        self.acceptors = [self._acceptor(place, context) for place, context in places]
        self.proxy = Noting((PROXY, PROXY_PORT), folder)

    def _acceptor(self, place: tuple[str, int], context: ssl.SSLContext | None) -> Acceptor:
        def serve(client: socket.socket) -> None:
            client.settimeout(PATIENCE_S)
            if context is None:
                self._serve(client, place)
                return
            with context.wrap_socket(client, server_side=True) as wrapped:
                self._serve(wrapped, place)

        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        return Acceptor(f"{place}", lambda: socket.create_server(place, family=family), serve)

    def _serve(self, client: socket.socket, place: tuple[str, int]) -> None:
        while head := _head(client):
            line, *fields = head.decode("latin-1").split("\r\n")
            named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            body = _exactly(client, int(named.get("content-length", "0")))
            self._note({"at": list(place), "line": line, "fields": named, "body": body.hex()})
            method, target, _ = line.split(" ")
            if not self._answer(client, method, target.partition("?")[0]):
                return

    def _answer(self, client: socket.socket, method: str, path: str) -> bool:
        """Whether the connection lives on."""
        if method == "PUT":
            status = "403 AuthenticationFailed" if path == "/forbidden" else "201 Created"
            client.sendall(whole(b"", status=status))
            return True
        match path:
            case "/endless":
                client.sendall(ENDLESS)
                while True:
                    client.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            case "/drip":
                client.sendall(whole(bytes(1000))[:-1000])
                for _ in range(1000):
                    client.sendall(b"x")
                    self._silence.wait(0.05)
            case "/silent":
                self._silence.wait(PATIENCE_S)
        client.sendall(ANSWERS.get(path, whole(path.encode())))
        return path in {"/whole", "/empty", "/chunked"}

    def _note(self, request: dict[str, object]) -> None:
        with self._lock:
            self._record.write(json.dumps(request) + "\n")


class NameServer(threading.Thread):
    """Tells the account's address to whoever asks for any name, by UDP (RFC 1035, 4)."""

    def __init__(self) -> None:
        super().__init__(name="name server", daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((NAME_SERVER, 53))

    def run(self) -> None:
        while True:
            packet, sender = self._socket.recvfrom(512)
            end = packet.index(b"\0", 12) + 5
            question = packet[12:end]
            is_a = question[-4:-2] == b"\0\1"
            head = packet[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4)
            address = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(STORAGE)
            self._socket.sendto(head + question + (address if is_a else b""), sender)


def _is_here(address: str) -> bool:
    """Whether it is one of this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        return probe.connect_ex((address, 1)) == errno.ECONNREFUSED


def _head(client: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            return b""
        head += byte
    return head[:-4]


def _exactly(client: socket.socket, size: int) -> bytes:
    body = b""
    while len(body) < size:
        piece = client.recv(size - len(body))
        if not piece:
            return body
        body += piece
    return body


def main() -> None:
    """Until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    folder = Path(sys.argv[1])
    account = Account(folder)
    for acceptor in account.acceptors:
        acceptor.open()
    account.proxy.open()
    if _is_here(NAME_SERVER):
        NameServer().start()
    (folder / "ready").touch()
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
