# SPDX-License-Identifier: Apache-2.0
"""Owns what a plan is judged by: the OVF, the settings, the account and the certificates, and what follows from them.

Runs in the supervisor; pure. Nothing in it comes from the worker whose plan is judged.
"""

import posixpath
import re

import msgspec

from ipc.messages import AccountFacts, CertificateKey, Ovf, ProvisioningOptions, PublicKey

# No uids of a person: nobody by the kernel's and the distributions' count, and -1.
NOBODIES = frozenset({65534, 65535, 0xFFFFFFFE, 0xFFFFFFFF})
THUMBPRINT = re.compile(r"[0-9A-F]{40}")


class Grounds(msgspec.Struct, frozen=True):
    """What a plan is judged by. `custom_data_bytes` is the size of the custom data as it stood in the document,
    `certificates` are those that the host has sent for it."""

    ovf: Ovf
    options: ProvisioningOptions
    account: AccountFacts
    custom_data_bytes: int
    certificates: tuple[CertificateKey, ...] = ()

    @property
    def has_password(self) -> bool:
        return self.ovf.password is not None and self.ovf.password.reveal() != ""

    @property
    def is_system_account(self) -> bool:
        """Whether the account is there and belongs to the system, not to a person."""
        account = self.account
        return account.exists and (account.uid < account.uid_min or account.uid in NOBODIES)

    @property
    def is_a_daemons(self) -> bool:
        """A system account that nobody is meant to log in to. (CoreOS' `core` is one that people do log in to.)"""
        return self.is_system_account and not self.account.for_a_person

    @property
    def home(self) -> str:
        """The account's home: as it is, or below the configured folder of homes."""
        return self.account.home if self.account.exists else f"{self.options.home_dir.rstrip('/')}/{self.ovf.user_name}"

    @property
    def keys(self) -> set[tuple[str, str]]:
        """Every (path below the home, key) that the OVF asks for; ("", key) if the path is elsewhere."""
        return {(self._below_home(key.path), self._key(key)) for key in self.ovf.public_keys}

    @property
    def pairs(self) -> set[tuple[str, str, str]]:
        """Every (path below the home, thumbprint, public key) of a key pair that the OVF asks for."""
        certificates = [
            (self._below_home(pair.path), self._certificate(pair.fingerprint)) for pair in self.ovf.key_pairs
        ]
        return {
            (path, each.thumbprint, each.public_key) for path, each in certificates if each and each.has_private_key
        }

    def _key(self, key: PublicKey) -> str:
        """As it stands there, or that of the certificate; "" if there is no such."""
        value = key.value.strip(" \t\r\n")
        certificate = None if value else self._certificate(key.fingerprint)
        return value if certificate is None else certificate.public_key

    def _certificate(self, fingerprint: str) -> CertificateKey | None:
        return next((each for each in self.certificates if each.thumbprint == thumbprint(fingerprint)), None)

    def _below_home(self, path: str) -> str:
        home_dir = self.options.home_dir.rstrip("/")
        absolute = posixpath.normpath(path.replace("$HOME", home_dir))
        for base in (posixpath.normpath(self.home), posixpath.normpath(f"{home_dir}/{self.ovf.user_name}")):
            if absolute.startswith(f"{base}/"):
                return absolute.removeprefix(f"{base}/")
        return ""


def thumbprint(text: str) -> str:
    """What an OVF's Fingerprint means, as certificates are named: upper case, no colons; "" if it is none."""
    plain = text.strip().replace(":", "").upper()
    return plain if THUMBPRINT.fullmatch(plain) else ""


def wanted_certificates(ovf: Ovf) -> dict[str, bool]:
    """The thumbprints that `ovf` names keys by -> whether the private key is wanted as well."""
    wanted = {thumbprint(key.fingerprint): False for key in ovf.public_keys if not key.value.strip()}
    wanted |= {thumbprint(pair.fingerprint): True for pair in ovf.key_pairs}
    return {name: private for name, private in wanted.items() if name}
