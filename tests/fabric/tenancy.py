# SPDX-License-Identifier: Apache-2.0
"""Owns what the emulated host seals for a VM: the tenant's certificates, protected settings, passwords of accounts.

Runs in test processes; the caller holds the lock. What it takes to do so is loaded when it is first asked for.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from tests.fabric.documents import GoalState
    from tests.fabric.plan import User
    from tests.fabric.tenant import Tenant

FORMAT = "Pkcs7BlobWithPfxContents"
DEFAULT_KINDS = ("rsa", "keyless")
_CHOICES = {
    "padding": ("v15", "oaep"),
    "recipient": ("key", "issuer", "other"),
    "pfx": ("by-cipher", "none", "3des", "aes"),
    "mac": ("by-cipher", "none", "sha1", "sha256"),
    "only": ("any", "AES128_CBC", "DES_EDE3_CBC"),
}


@dataclass
class Tenancy:
    """`tenant` None: the VM has no certificates. How things are sealed: `padding` of the envelope's key; its
    `recipient` named by key or issuer, or somebody else; protection and MAC of the key store (by-cipher: what goes with
    an envelope of that cipher); the `only` cipher that the host agrees to; the `format` that it tells."""

    tenant: "Tenant | None" = None
    padding: str = "v15"
    recipient: str = "key"
    pfx: str = "by-cipher"
    mac: str = "by-cipher"
    only: str = "any"
    format: str = FORMAT

    def set(self, *words: str) -> None:
        """Any of padding=, recipient=, pfx=, mac=, only=, format=. Raises ValueError."""
        for word in words:
            name, _, value = word.partition("=")
            if name == "format":
                self.format = value
            elif value in _CHOICES.get(name, ()):
                setattr(self, name, value)
            else:
                raise ValueError(f"{word!r} says nothing about envelopes")

    def renew(self, kinds: tuple[str, ...], now: float) -> None:
        """Fresh certificates of these kinds (tenant.KINDS), none for no kinds. Raises ValueError."""
        if not kinds:
            self.tenant = None
            return
        from tests.fabric.tenant import Tenant

        self.tenant = Tenant.make(kinds, now)

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.tenant.kinds if self.tenant is not None else ()

    @property
    def thumbprints(self) -> tuple[str, ...]:
        return self.tenant.thumbprints if self.tenant is not None else ()

    def agrees(self, cipher: str | None) -> bool:
        return self.only in {"any", cipher}

    def seal(self, content: bytes, number: int) -> tuple[bytes, str]:
        """`content` sealed for the tenant's certificate number `number`, as protected settings are, and its thumbprint.
        Raises ValueError."""
        from tests.fabric.envelopes import Recipient, enveloped

        holding = self.tenant.for_settings(number) if self.tenant is not None else None
        if holding is None:
            raise ValueError(f"there is no certificate {number} to seal settings for: publish certificates first")
        return enveloped(content, Recipient(holding.certificate, by_issuer=True)), holding.thumbprint

    def certificates_data(self, header: str, cipher: str) -> str:
        """The Data of a CertificateFile for the VM with that certificate; empty when it has no certificates."""
        if self.tenant is None:
            return ""
        old = cipher == "DES_EDE3_CBC"
        protection = ("3des" if old else "aes") if self.pfx == "by-cipher" else self.pfx
        mac = ("sha1" if old else "sha256") if self.mac == "by-cipher" else self.mac
        return self._enveloped(self.tenant.pfx(protection, mac), header, cipher)

    def users_xml(self, users: "tuple[User, ...]", goal_state: "GoalState", header: str, cipher: str) -> str:
        """RemoteAccess (wire-protocol.md 8) for the VM with that certificate."""
        told = "".join(
            f"<User><Name>{escape(user.name)}</Name>"
            f"<Password>{user.sealed or self._enveloped(user.password.encode('utf-16'), header, cipher)}</Password>"
            f"<Expiration>{escape(user.expires)}</Expiration>"
            "<Groups><GroupName>Administrators</GroupName></Groups></User>"
            for user in users
        )
        return (
            '<?xml version="1.0" encoding="utf-8"?><RemoteAccess><Version>1</Version>'
            f"<Incarnation>{goal_state.incarnation}</Incarnation><Users>{told}</Users></RemoteAccess>"
        )

    def _enveloped(self, content: bytes, header: str, cipher: str) -> str:
        from tests.fabric.envelopes import Recipient, enveloped
        from tests.fabric.tenant import Tenant

        certificate = base64.b64decode(header)
        if self.recipient == "other":
            certificate = Tenant.make(("rsa",), 1_790_000_000.0).holdings[0].certificate
        to = Recipient(certificate, self.padding, by_issuer=self.recipient == "issuer")
        return base64.encodebytes(enveloped(content, to, cipher)).decode().strip()


def certificate_problem(header: str | None) -> str:
    """What is wrong with a transport certificate as a header, empty when nothing is (wire-protocol.md 3, set C)."""
    # Late: it would cost every start of the host a quarter of a second.
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if header is None:
        return "is missing"
    try:
        key = x509.load_der_x509_certificate(base64.b64decode(header, validate=True)).public_key()
    except (binascii.Error, ValueError):
        return "is no certificate in base64"
    return "" if isinstance(key, RSAPublicKey) else "has no RSA key: nothing can be enveloped for it"
