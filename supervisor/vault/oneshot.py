# SPDX-License-Identifier: Apache-2.0
"""Owns one piece of work with a private key, in a sealed process of its own that ends with it.

Runs as the vault, started by exec. It must never write a key anywhere but into its one answer.
"""

import datetime
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from ipc.channel import Channel
from ipc.errors import ChannelClosed
from ipc.messages import MakeTransportKey, TransportKey, WorkerReady
from ipc.secret import Secret

KEY_BITS = 2048
SUBJECT = "LinuxTransport"
# A VM's clock at first boot may be behind the host's by a time zone or a day; the host checks no start of validity.
CLOCK_SLACK = datetime.timedelta(days=1)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Answer one request. The channel is closed whatever happens: Python asks about a socket that nobody closed, which
    is not among the calls of a locked vault."""
    try:
        lock()
        channel.send(WorkerReady())
        _answer(channel)
    finally:
        channel.close()


def _answer(channel: Channel) -> None:
    try:
        request, descriptors = channel.receive()
    except ChannelClosed:
        return
    if not isinstance(request, MakeTransportKey) or descriptors:
        raise SystemExit(1)
    channel.send(make_transport_key(request.days, datetime.datetime.now(datetime.UTC)))


def make_transport_key(days: int, now: datetime.datetime) -> TransportKey:
    """A fresh RSA-2048 key and its self-signed certificate, valid `days` from `now` (wire-protocol.md 5.1)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SUBJECT)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    return TransportKey(Secret(private.decode("ascii")), public.decode("ascii"))
