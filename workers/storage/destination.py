# SPDX-License-Identifier: Apache-2.0
"""Owns where a transfer may go: a URL and the addresses behind its name, refused where they are none of storage's.

Runs in the storage worker. The rule in front of the WireServer refuses this process in any case; where that rule is
off, or some other service listens on loopback or a link (the instance metadata), no document may aim this worker at it.
"""

import ipaddress
import re
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from workers.storage.failure import TransferError

# Where the platform has it, whatever address of it the agent has been told.
PLATFORM = "168.63.129.16"
PORTS = {"https": 443, "http": 80}
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?\Z")


class Destination(NamedTuple):
    """`target` is the path with the query, as sent."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def shown(self) -> str:
        """For people: without the query."""
        return f"{self.scheme}://{self.authority}{self.target.partition('?')[0]}"

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def destination(url: str, *, plain: bool) -> Destination:
    """What `url` says; TransferError for one that is not of https, nor of http where `plain` allows that."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise TransferError("the URL has characters that no URL has: nothing is sent")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise TransferError("the URL is none: nothing is sent") from None
    if parts.scheme not in PORTS or (parts.scheme == "http" and not plain):
        raise TransferError(
            f"the URL's scheme is {parts.scheme[:16]!r}, and https is expected (http only with OS.AllowHTTP=y)"
        )
    if parts.username is not None or parts.password is not None:
        raise TransferError("the URL names a user, and storage knows none: nothing is sent")
    if ":" not in host and not _NAME.match(host):
        raise TransferError("the URL names no host: nothing is sent")
    query = f"?{parts.query}" if parts.query else ""
    return Destination(parts.scheme, host, port or PORTS[parts.scheme], (parts.path or "/") + query)


def check_literal(host: str, wireserver: str) -> None:
    """TransferError where `host` is an address, and a forbidden one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    _check(host, str(address), wireserver, own=False)


def addresses(host: str, port: int, wireserver: str, *, own: bool = False) -> list[str]:
    """The addresses of `host`, looked up once: what was checked is what is connected to. TransferError when there are
    none, or one among them is forbidden. `own`: loopback is not, for a proxy that runs on this machine."""
    try:
        found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no usable name"
        raise TransferError(f"{host} can't be looked up: {reason}") from None
    texts = list(dict.fromkeys(str(address[4][0]) for address in found))
    for text in texts:
        _check(host, text, wireserver, own=own)
    return texts


def _check(host: str, text: str, wireserver: str, *, own: bool) -> None:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if str(address) in {PLATFORM, wireserver}:
        raise TransferError(f"{host} is the WireServer ({address}), which nobody but the agent talks to")
    if not own and address.is_loopback:
        raise TransferError(f"{host} is {address}, this machine's loopback: nothing is sent")
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise TransferError(f"{host} is {address}, an address that no storage has: nothing is sent")
