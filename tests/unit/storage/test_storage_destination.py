# SPDX-License-Identifier: Apache-2.0
"""Where the storage worker goes: what of a URL it sends, and which addresses it connects to."""

import pytest

from workers.storage.destination import addresses, check_literal, destination
from workers.storage.failure import TransferError

WIRESERVER = "10.9.8.7"


def test_what_a_url_says() -> None:
    where = destination("https://Account.Blob.example/a%20b/c?sig=a%2Bb%3D&se=1", plain=False)
    assert (where.scheme, where.host, where.port) == ("https", "account.blob.example", 443)
    assert where.target == "/a%20b/c?sig=a%2Bb%3D&se=1"
    assert (where.authority, where.shown) == ("account.blob.example", "https://account.blob.example/a%20b/c")
    other = destination("http://[2001:db8::1]:8080", plain=True)
    assert (other.authority, other.target) == ("[2001:db8::1]:8080", "/")


@pytest.mark.parametrize(
    ("host", "own", "problem"),
    [
        (WIRESERVER, False, "is the WireServer"),
        ("168.63.129.16", False, "is the WireServer"),
        ("168.63.129.16", True, "is the WireServer"),
        ("2822734096", False, "is the WireServer"),
        ("0xa8.63.129.16", False, "is the WireServer"),
        ("::ffff:168.63.129.16", False, "is the WireServer"),
        ("::ffff:10.9.8.7", False, "is the WireServer"),
        ("169.254.169.254", False, "that no storage has"),
        ("fe80::1", False, "that no storage has"),
        ("fe80::1%lo", True, "that no storage has"),
        ("169.254.1.1", True, "that no storage has"),
        ("::ffff:169.254.169.254", False, "that no storage has"),
        ("2852039166", False, "that no storage has"),
        ("::", False, "that no storage has"),
        ("ff02::1", False, "that no storage has"),
        ("224.0.0.1", False, "that no storage has"),
        ("0.0.0.0", True, "that no storage has"),
        ("127.0.0.1", False, "this machine's loopback"),
        ("127.1", False, "this machine's loopback"),
        ("::1", False, "this machine's loopback"),
    ],
)
def test_where_it_never_goes(host: str, own: bool, problem: str) -> None:
    with pytest.raises(TransferError, match=problem):
        addresses(host, 443, WIRESERVER, own=own)


def test_where_it_goes() -> None:
    """Private addresses are those of private endpoints; a proxy may run on this machine."""
    for host in ("10.1.2.3", "192.168.1.1", "203.0.113.10", "2001:db8::1"):
        assert addresses(host, 443, WIRESERVER) == [host]
    assert addresses("127.0.0.1", 3128, WIRESERVER, own=True) == ["127.0.0.1"]


def test_by_a_proxy_no_address_of_the_wireserver_is_named() -> None:
    check_literal("account.example", WIRESERVER)
    for host in (WIRESERVER, "168.63.129.16", "169.254.169.254", "127.0.0.1"):
        with pytest.raises(TransferError):
            check_literal(host, WIRESERVER)
