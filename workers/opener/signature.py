# SPDX-License-Identifier: Apache-2.0
"""Owns whether a package is signed by somebody who counts: OpenSSL judges, this tells who it was or why not.

Runs in the opener, which may read the package and looks at no byte of it. What it reads of a signature is for people.
"""

import re
from collections.abc import Iterator

from ipc.descriptors import close_all, read_sealed
from ipc.errors import BadDescriptor, InputError
from ipc.messages.handler_packages import PackageVerified, SignatureRefused, VerifyPackage
from ipc.messages.vault import VerifySignature
from workers.opener import certificate, der
from workers.opener.der import Element
from workers.opener.openssl import Run, lacking
from workers.runtime import Answer

MOST_SIGNATURE_BYTES, MOST_AUTHORITIES_BYTES = 256 * 1024, 1024 * 1024
LONGEST_NAME = 500
_BEGIN_SET, _KEY_IDENTIFIER = 0xA0, 0x80
_UNTRUSTED = re.compile(r"[Vv]erify error: ?([A-Za-z0-9 ,_-]{1,200})")
# What OpenSSL says where the bytes are others than those that were signed.
_OTHER = ("verification failure", "digest failure", "digest error", "content verify error")


def verify(run: Run, request: VerifyPackage, given: tuple[int, ...]) -> Iterator[Answer]:
    """The handler of that request."""
    try:
        if len(given) != 3:
            raise BadDescriptor(f"{len(given)} descriptors for a package, a signature and authorities")
        signature = read_sealed(given[1], MOST_SIGNATURE_BYTES)
        if not read_sealed(given[2], MOST_AUTHORITIES_BYTES):
            yield SignatureRefused("no authority is trusted on this machine, so nobody can have signed it")
            return
        ended, _ = run(VerifySignature(request.openssl), (given[1], given[0], given[2]))
    except InputError as error:
        yield SignatureRefused(str(error))
        return
    finally:
        close_all(given)
    if ended.status != 0:
        yield SignatureRefused(_reason(ended.text) + lacking(ended))
        return
    yield PackageVerified(signer(signature)[:LONGEST_NAME])


def _reason(text: str) -> str:
    untrusted = _UNTRUSTED.search(text)
    if untrusted:
        return f"who has signed it is not trusted on this machine: {untrusted[1].strip()}"
    if any(words in text for words in _OTHER):
        return "the signature is over something else: the package was changed, or it is another one's"
    return "the signature is none that OpenSSL can read"


def signer(signature: bytes) -> str:
    """The subjects of the certificates that have signed (RFC 5652 5.1), for people; what can't be told is said so."""
    try:
        content = der.at(der.inner(der.at(der.elements(signature), 0)), 1)
        fields = der.inner(der.at(der.elements(der.content(content, _BEGIN_SET)), 0))
        held = [each for field in fields if field.tag == _BEGIN_SET for each in der.elements(field.content)]
        known = {
            (described.number, described.issuer): described.subject for described in map(certificate.describe, held)
        }
        return "; ".join(_name(sign, known) for sign in der.inner(fields[-1], der.SET))
    except InputError as error:
        return f"somebody whose name can't be read: {error}"


def _name(sign: Element, known: dict[tuple[bytes, bytes], str]) -> str:
    named = der.at(der.inner(sign), 1)
    if named.tag == _KEY_IDENTIFIER:
        return f"the holder of the key {named.content.hex()[:80]}"
    parts = der.inner(named)
    issuer, number = (der.at(parts, index).content for index in (0, 1))
    return known.get((number, issuer), "the holder of a certificate that is not in the signature")
