# SPDX-License-Identifier: Apache-2.0
"""Opens one envelope of the host's with the transport key, by OpenSSL in its companion, and answers what is in it.

Runs in the opener, which ends with that one envelope. No key and no password is ever in a message, an error or a log.
"""

import base64
import os
from collections.abc import Callable, Iterator
from functools import partial

from ipc.channel import Channel
from ipc.descriptors import close_all, sealed_memfd
from ipc.errors import BadDescriptor, InputError
from ipc.messages.handler_packages import VerifyPackage
from ipc.messages.vault import (
    MOST_ENVELOPE_BYTES,
    CertificatesOpened,
    DecryptEnvelope,
    OpenCertificates,
    OpenPassword,
    Openssl,
    PasswordOpened,
    UnpackPfx,
)
from workers.companion import companion
from workers.opener import openssl, pem, signature
from workers.opener.openssl import Run, lacking
from workers.runtime import Answer, Handlers, serve_once

MOST_PASSWORD_BYTES = 1024
# A wrong key may give anything (RSA's implicit rejection), so this is the one answer to an envelope that can't be
# opened and to what makes no sense in it: it tells nothing to who sends envelopes.
CLOSED = "can't be opened with this VM's transport key"


def open_certificates(run: Run, request: OpenCertificates, given: tuple[int, ...]) -> Iterator[Answer]:
    """Everything in the PFX in the envelope; what can't be used is among the problems."""
    try:
        if len(given) != 3:
            raise BadDescriptor(f"{len(given)} descriptors for an envelope, a key and a certificate")
        pfx = _decrypted(run, request.openssl, given)
    finally:
        close_all(given)
    text, problem = _unpacked(run, request.openssl, pfx)
    opened = pem.matched(text)
    files = sealed_memfd("certificates", opened.certificates), sealed_memfd("keys", opened.keys)
    yield CertificatesOpened(opened.rows, (*problem, *opened.problems)[: pem.MOST_PROBLEMS]), files


def open_password(run: Run, request: OpenPassword, given: tuple[int, ...]) -> Iterator[Answer]:
    """The text in the envelope, which is UTF-16 with a byte order mark there."""
    try:
        if len(given) != 2:
            raise BadDescriptor(f"{len(given)} descriptors for a key and a certificate")
        content = base64.b64decode(request.envelope, validate=True)
    except ValueError:
        close_all(given)
        raise InputError("envelope", "is no base64") from None
    envelope = sealed_memfd("envelope", content)
    try:
        text = _decrypted(run, request.openssl, (envelope, *given))
    finally:
        close_all((envelope, *given))
    yield PasswordOpened(), (sealed_memfd("password", _password(text)),)


def _password(text: bytes) -> bytes:
    try:
        password = text.decode("utf-16").encode()
    except UnicodeError:
        password = b""
    if not 0 < len(password) <= MOST_PASSWORD_BYTES or b"\0" in password or b"\n" in password:
        raise InputError("envelope", CLOSED)
    return password


def _decrypted(run: Run, openssl: Openssl, given: tuple[int, ...]) -> bytes:
    """What is in the envelope given[0], for the key and certificate behind it."""
    size = os.fstat(given[0]).st_size
    if size > MOST_ENVELOPE_BYTES:
        raise InputError("envelope", f"{size} bytes are over the limit of {MOST_ENVELOPE_BYTES}")
    ended, content = run(DecryptEnvelope(openssl), given)
    if ended.status != 0:
        raise InputError("envelope", f"{CLOSED}{lacking(ended)}")
    return content


def _unpacked(run: Run, openssl: Openssl, pfx: bytes) -> tuple[bytes, tuple[str, ...]]:
    """What OpenSSL prints of it, and what is wrong with that. First without a look at the MAC: a FIPS module may not
    have its algorithm, and with an empty password it proves nothing. With it OpenSSL finds out what "empty" means."""
    given = sealed_memfd("pfx", pfx)
    best, wrong = b"", ""
    try:
        for integrity in ("ignored", "checked"):
            ended, text = run(UnpackPfx(openssl, integrity), (given,))
            if ended.status == 0:
                return text, ()
            # What stands before the part at which it failed is whole.
            best, wrong = (text, lacking(ended)) if len(text) > len(best) or not wrong else (best, wrong)
    finally:
        os.close(given)
    if b"-----BEGIN " not in best:
        raise InputError("envelope", f"{CLOSED}{wrong}")
    return best, (f"a part of the PFX can't be read{wrong}",)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry."""
    with companion() as ask:
        run = partial(openssl.run, ask)
        handlers: Handlers = {
            OpenCertificates: partial(open_certificates, run),
            OpenPassword: partial(open_password, run),
            VerifyPackage: partial(signature.verify, run),
        }
        serve_once(channel, lock, handlers)
