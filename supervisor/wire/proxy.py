# SPDX-License-Identifier: Apache-2.0
"""Owns the question by which proxy storage is reached, if by any (wire-protocol.md 2). Pure.

Runs in the supervisor. It is never asked about the WireServer, the host plugin or the metadata service: these are
reached directly, or not at all.
"""

import re
import socket
from collections.abc import Mapping

import msgspec

# What of its environment the service looks at; the lower case first, as others do.
VARIABLES = {"https": ("https_proxy", "HTTPS_PROXY"), "http": ("http_proxy", "HTTP_PROXY")}
_LENGTHS = frozenset(map(str, range(33)))
EXEMPT = ("no_proxy", "NO_PROXY")
_URL = re.compile(r"(?:[a-z]+://)?(?P<user>[^@/]*@)?(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+):(?P<port>\d{1,5})/?", re.I)


class Proxy(msgspec.Struct, frozen=True):
    """A host, by name or address, and a port; it is spoken to in plain HTTP."""

    host: str
    port: int


class ProxySettings(msgspec.Struct, frozen=True):
    """`by_scheme` has the proxy for https and that for http, where there is one; `exempt` is whom it is not for.
    `problems` are half sentences for the log."""

    by_scheme: dict[str, Proxy] = {}
    exempt: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def proxy_for(self, scheme: str, host: str) -> Proxy | None:
        """The proxy by which `host` is reached over `scheme`; None: directly."""
        proxy = self.by_scheme.get(scheme)
        return None if proxy is None or any(_exempts(entry, host.lower()) for entry in self.exempt) else proxy


def settings(host: str | None, port: int | None, environ: Mapping[str, str]) -> ProxySettings:
    """By HttpProxy.Host and HttpProxy.Port, where the first is set; else by `environ`."""
    exempt = tuple(part.strip().lower() for part in _first(environ, EXEMPT)[1].split(",") if part.strip())
    if host and port:
        return ProxySettings(dict.fromkeys(VARIABLES, Proxy(host, port)), exempt)
    if host:
        return ProxySettings(problems=("HttpProxy.Host is set without HttpProxy.Port: no proxy is used",))
    found: dict[str, Proxy] = {}
    problems = []
    for scheme, names in VARIABLES.items():
        name, value = _first(environ, names)
        told = _URL.fullmatch(value)
        if told is not None and 0 < int(told["port"]) <= 0xFFFF:
            found[scheme] = Proxy(told["host"].strip("[]"), int(told["port"]))
            problems += [f"{name} names a user, who is not told to the proxy"] if told["user"] else []
        elif value:
            problems.append(f"{name} is not of the form http://HOST:PORT: no proxy is used for {scheme}")
    return ProxySettings(found, exempt, tuple(problems))


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    return next(((name, environ[name].strip()) for name in names if environ.get(name, "").strip()), (names[0], ""))


def _exempts(entry: str, host: str) -> bool:
    """Whether `entry` is `host`: as an address, a network that it lies in, a name, or the domain that it is in."""
    if entry == "*":
        return True
    address = _number(host)
    if address is None:
        domain = entry.lstrip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    network, slash, bits = entry.partition("/")
    number, length = _number(network), bits if slash else "32"
    if number is None or length not in _LENGTHS:
        return False
    return (number ^ address) >> (32 - int(length)) == 0


def _number(text: str) -> int | None:
    """A dotted IPv4 address as a number; None for anything else."""
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
    except OSError:
        return None
