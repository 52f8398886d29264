# SPDX-License-Identifier: Apache-2.0
"""Owns the certificates that an OVF names keys by, while it provisions: fetched, waited for, handed out by thumbprint.

Runs in the supervisor. The worker that plans gets public keys alone; a private one goes, sealed, to the committer that
writes it, and nowhere else.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ipc.errors import HostError
from ipc.messages import CertificateKey
from supervisor import options
from supervisor.parts import Parts

if TYPE_CHECKING:
    from supervisor.certificates import Certificates

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0


class NoCertificate(HostError):
    """The host has not sent a certificate that the OVF names."""


class OvfCertificates:
    """What was fetched for one OVF; nothing before `fetch`."""

    def __init__(self, parts: Parts, certificates: "Certificates") -> None:
        self._ = parts
        self._certificates = certificates
        self._wanted: Mapping[str, bool] = {}

    @property
    def keys(self) -> tuple[CertificateKey, ...]:
        """What the worker that plans may know of them."""
        known = self._certificates.known
        found = [(name, known[name]) for name in self._wanted if name in known]
        return tuple(CertificateKey(name, each.ssh_public_key, each.has_private_key) for name, each in found)

    def private_key(self, thumbprint: str) -> int:
        """A sealed memfd with the PEM of it, the caller's to close. LookupError for one that was not fetched."""
        if not self._wanted[thumbprint]:
            raise LookupError(f"the OVF names no key pair by {thumbprint}")
        return self._certificates.private_key(thumbprint)

    async def fetch(self, wanted: Mapping[str, bool], tell: Callable[[str], None]) -> None:
        """Return once the host has sent all of `wanted` (thumbprint -> with its private key). NoCertificate after the
        configured time; `tell` gets what is missing, for `ps`."""
        part, self._wanted = self._, wanted
        tell("makes the transport key, for the certificates that ovf-env.xml names")
        if await part.credentials.ensure():
            part.say("info", "supervisor", "transport key made, for the certificates that ovf-env.xml names")
        patience_s = part.config[options.CERTIFICATES_TIMEOUT]
        ends, pause_s = part.loop.clock.monotonic() + patience_s, FIRST_PAUSE_S
        while True:
            await self._refresh()
            missing = self._missing()
            if not missing:
                part.say("info", "provisioning", f"certificates {', '.join(wanted)} are here")
                return
            left_s = ends - part.loop.clock.monotonic()
            if left_s <= 0:
                raise NoCertificate(f"ovf-env.xml, Fingerprint: {missing}, not within {patience_s} s{self._why()}")
            tell(f"waits for a certificate: {missing}")
            await part.loop.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _refresh(self) -> None:
        """Ask for the goal state anew, and for the certificates that it has a URL of."""
        contact = self._.contact
        try:
            await contact.refresh()
        except HostError as error:
            self._.say("warning", "host", f"the goal state, for its certificates: {error}")
        instance = contact.goal_state.role_instance if contact.goal_state is not None else None
        if instance is not None and instance.certificates_url:
            await self._certificates.refresh(instance.certificates_url)

    def _missing(self) -> str:
        """What the host has not sent yet, in words; empty when nothing is missing."""
        known = self._certificates.known
        absent = [name for name in self._wanted if name not in known]
        if absent:
            return f"the host has not sent certificate {', '.join(absent)}"
        bare = [name for name, private in self._wanted.items() if private and not known[name].has_private_key]
        return f"the host has sent certificate {', '.join(bare)} without its private key" if bare else ""

    def _why(self) -> str:
        problems = self._certificates.problems
        return f" ({'; '.join(problems)})" if problems else ""
