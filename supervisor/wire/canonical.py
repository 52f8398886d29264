# SPDX-License-Identifier: Apache-2.0
"""Owns the bytes of a request that the secure channel's signature is made of (secure-channel.md, Signature).

Runs in the supervisor; pure. What it makes must be the same for the host, which makes it from what arrives.
"""

AUTHORIZATION = b"x-ms-azure-host-authorization"
# Names and values, as they stand in the head.
Headers = list[tuple[bytes, bytes]]


def canonical(method: bytes, target: bytes, headers: Headers, body: bytes) -> bytes:
    """The bytes to sign. `target` is the path with its query as sent, `headers` those that go out; the header that
    carries the signature itself does not count."""
    path, _, query = target.partition(b"?")
    named = sorted((name.lower(), value.strip()) for name, value in headers)
    lines = [name + b":" + value for name, value in named if name != AUTHORIZATION]
    return b"\n".join((method, body, *lines, path, canonical_query(query)))


def canonical_query(query: bytes) -> bytes:
    """Its pairs, each once, names in lower case, in the order of name and value written together."""
    parts = (pair.partition(b"=") for pair in query.split(b"&"))
    pairs = {(name.lower(), value) for name, _, value in parts if name}
    # The name decides between pairs that are alike when written together, so that the order is always the same.
    ordered = sorted(pairs, key=lambda pair: (pair[0] + pair[1], pair[0]))
    return b"&".join(name + b"=" + value if value else name for name, value in ordered)
