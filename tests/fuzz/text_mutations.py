# SPDX-License-Identifier: Apache-2.0
"""Mutations of XML documents by tokens: tags and texts are dropped, repeated, swapped, nested and taken from others."""

import itertools
import random
import re
from collections.abc import Callable

MAX_TOKENS = 30_000
MAX_BYTES = 1_500_000

_TOKEN = re.compile(rb"<[^>]*>|[^<]+")
Tokens = list[bytes]

MARKUP = b"""<a> </a> <a/> <!-- --> <!--a <![CDATA[a]]> <![CDATA[ ]]> <?a?> <?xml?> & &amp; &#0; &#x41; &#xFFFFFFFF; &a;
<UserPassword> </UserPassword> <UserPassword/> <PublicKey> </PublicKey> <KeyPair> <CustomData> <Version> </Version>
<wa:Version> <Container> </Container> <RoleInstance> <ContainerId> <Incarnation> <Environment> </Environment>""".split()
MARKUP += [
    b"<!DOCTYPE a>",
    b'<!DOCTYPE a [<!ENTITY b "cc">]>',
    b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    b'<a b="&lt;">',
]
MARKUP += [b"<a xmlns='urn:x'>", b'<b:c xmlns:b="http://schemas.microsoft.com/windowsazure">', b"<UserPassword a='>'>"]
MARKUP += [
    b'<?xml version="1.0" encoding="utf-16"?>',
    b'<?xml version="1.1"?>',
    b'<?xml version="1.0" encoding="koi8-r"?>',
]
WELL_FORMED = [
    b"<a/>",
    b"<!-- a -->",
    b"<![CDATA[a]]>",
    b"<![CDATA[<]]>",
    b"<?a b?>",
    b"&amp;",
    b"&#x41;",
    b"<UserPassword/>",
]
WELL_FORMED += [
    b"<UserPassword>x</UserPassword>",
    b"<CustomData>eA==</CustomData>",
    b"<Version>1</Version>",
    b"<Container/>",
]
WELL_FORMED += [
    b"<UserPassword a='>'>x</UserPassword>",
    b"<UserPassword>x<a/>y</UserPassword>",
    b"<Incarnation>9</Incarnation>",
]
RAW = [
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\r\n",
    b"\x1b",
]


def mutate(document: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """One to six changes of `document`; `others` is where alien tokens come from."""
    tokens = _TOKEN.findall(document)
    for _ in range(draw.choice((1, 1, 2, 2, 3, 6))):
        if not tokens:
            break
        draw.choice(OPERATIONS)(tokens, others, draw)
    return _finish(_join(tokens), draw)


def _join(tokens: Tokens) -> bytes:
    """The tokens, as far as they fit: repeated texts of a megabyte would be the fuzzer's own memory."""
    ends = itertools.accumulate(map(len, tokens))
    return b"".join(token for token, end in zip(tokens, ends, strict=True) if end <= MAX_BYTES)


def _finish(document: bytes, draw: random.Random) -> bytes:
    match draw.randrange(24):
        case 0:
            return document[: draw.randrange(len(document) + 1)]
        case 1:
            at = draw.randrange(len(document) + 1)
            return document[:at] + draw.choice(RAW) + document[at + draw.randrange(3) :]
        case 2:
            text = document.decode("utf-8", "replace").replace("utf-8", draw.choice(("utf-8", "utf-16", "UTF-16LE")), 1)
            return text.encode(draw.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-7")))
        case 3:
            return draw.choice(RAW) + document
        case 4:
            return draw.randbytes(draw.randrange(200))
    return document


def _run(tokens: Tokens, draw: random.Random) -> slice:
    """Some tokens: mostly a whole element or text, so that the document stays well-formed; else any few."""
    start = draw.randrange(len(tokens))
    if draw.random() < 0.2:
        return slice(start, start + draw.choice((1, 1, 2, 3, 8)))
    if tokens[start].startswith(b"</"):
        start = max(start - 1, 0)
    depth = 0
    for end in range(start, len(tokens)):
        token = tokens[end]
        if token.startswith(b"</"):
            depth -= 1
        elif token.startswith(b"<") and not token.startswith((b"<!", b"<?")) and not token.endswith(b"/>"):
            depth += 1
        if depth <= 0:
            return slice(start, end + 1)
    return slice(start, start + 1)


def _drop(tokens: Tokens, _others: list[bytes], draw: random.Random) -> None:
    del tokens[_run(tokens, draw)]


def _repeat(tokens: Tokens, _others: list[bytes], draw: random.Random) -> None:
    """A run of tokens again, rarely thousands of times."""
    place = _run(tokens, draw)
    at, run = place.start, tokens[place]
    times = draw.choice((1, 1, 1, 2, 40)) if draw.random() < 0.997 else draw.choice((300, 9000))
    tokens[at:at] = (run * times)[: max(MAX_TOKENS - len(tokens), 0)]


def _swap(tokens: Tokens, _others: list[bytes], draw: random.Random) -> None:
    first, second = sorted((_run(tokens, draw) for _ in range(2)), key=lambda run: run.start)
    if first.stop <= second.start:
        one, other = tokens[first], tokens[second]
        tokens[second] = one
        tokens[first] = other


def _markup(tokens: Tokens, _others: list[bytes], draw: random.Random) -> None:
    tokens.insert(draw.randrange(len(tokens) + 1), draw.choice(WELL_FORMED if draw.random() < 0.6 else MARKUP))


def _wrap(tokens: Tokens, _others: list[bytes], draw: random.Random) -> None:
    """A balanced element around a run of tokens, up to a hundred deep."""
    run = _run(tokens, draw)
    first, second = run.start, run.stop
    depth = draw.choice((1, 1, 1, 2, 8, 30))
    name = draw.choice((b"a", b"UserPassword", b"PublicKey", b"Version", b"Container"))
    tokens[second:second] = [b"</" + name + b">"] * depth
    tokens[first:first] = [b"<" + name + b">"] * depth


def _splice(tokens: Tokens, others: list[bytes], draw: random.Random) -> None:
    alien = _TOKEN.findall(draw.choice(others))
    tokens[_run(tokens, draw)] = alien[_run(alien, draw)]


def _text(tokens: Tokens, _others: list[bytes], draw: random.Random) -> None:
    """Another content for a text: empty, odd, long, or with bytes that are no text."""
    texts = [at for at, token in enumerate(tokens) if not token.startswith(b"<")]
    if texts:
        at = draw.choice(texts)
        tokens[at] = draw.choice(
            (b"", b" ", b"\n", b"-1", b"x" * 1025, b"\xc3\xa4" * 600, b"true", b"\0", *MARKUP[:16])
        )
        if draw.random() < 0.005:
            tokens[at] = b"y" * draw.choice((16385, 70_000, 140_000, 1_100_000))


def _attributes(tokens: Tokens, _others: list[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(tokens))
    if tokens[at].startswith(b"<"):
        count = draw.choice((1, 1, 2, 63, 65, 500))
        extra = b"".join(b" a%d='%d'" % (draw.choice((1, number)), number) for number in range(count))
        tokens[at] = tokens[at][:-1] + extra + b">"


def _flip(tokens: Tokens, _others: list[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(tokens))
    token = bytearray(tokens[at]) or bytearray(b"<")
    token[draw.randrange(len(token))] ^= 1 << draw.randrange(8)
    tokens[at] = bytes(token)


OPERATIONS: list[Callable[[Tokens, list[bytes], random.Random], None]]
OPERATIONS = [_drop, _drop, _repeat, _swap, _markup, _markup, _wrap, _splice, _text, _text, _attributes, _flip]
