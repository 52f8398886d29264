# SPDX-License-Identifier: Apache-2.0
"""Owns making the SSH host keys known, so that whoever connects first can tell this VM from another one.

Runs in the supervisor. To the log and the console, and to the platform as a property of the VM's role
(provisioning.md 7, wire-protocol.md 10). Nothing that happens here keeps a VM from being ready.
"""

from collections.abc import Callable, Sequence

from ipc.errors import AgentError
from ipc.messages import HostKey
from supervisor.contact import Contact
from supervisor.loop import Loop, TimedOut
from supervisor.standing import Standing

PROPERTY = "CertificateThumbprint"
# The host is told before it is told Ready; one that is slow about it has this long, then both go on side by side.
BEFORE_READY_S = 3.0
TROUBLE = "role properties"
# provisioning.md 7: where all types are made, the platform gets the fingerprint of this one.
OF_ALL = "rsa"


class Fingerprints:
    """Announces keys; what the platform has not accepted is one of the standing's troubles."""

    def __init__(
        self,
        loop: Loop,
        contact: Contact,
        say: Callable[[str, str, str], None],
        show: Callable[[Sequence[str]], None],
        standing: Standing,
    ) -> None:
        """`say` is for the log; `show` puts lines on the console as they are."""
        self._loop = loop
        self._contact = contact
        self._say = say
        self._show = show
        self._standing = standing

    def show(self, keys: Sequence[HostKey]) -> None:
        """One line a key to the log; two blocks to the console, in the form that readers of cloud-init's look for."""
        if not keys:
            self._say("warning", "provisioning", "no SSH host keys are there: sshd may make its own when it starts")
            return
        for key in keys:
            self._say("info", "provisioning", f"SSH host key: {listed(key)}")
        self._show(block("FINGERPRINTS", [listed(key) for key in keys]))
        self._show(block("KEYS", [key.public for key in keys]))

    async def report(self, keys: Sequence[HostKey], configured: str) -> None:
        """Tell the platform, of the type `configured` if there is one; returns when it has accepted that, or soon."""
        if not keys:
            return
        work = self._loop.start(TROUBLE, self._report(chosen(keys, configured)))
        try:
            await self._loop.within(work, BEFORE_READY_S)
        except TimedOut:
            self._standing.lacks(TROUBLE, "the host has not accepted them yet; they are reported beside Ready")

    async def _report(self, key: HostKey) -> None:
        try:
            await self._contact.report_role_properties({PROPERTY: thumbprint(key)})
        except AgentError as error:
            self._say("warning", "host", f"does not accept the SSH host key's fingerprint: {error}; not reported again")
            self._standing.lacks(TROUBLE, str(error))
        else:
            self._say("info", "host", "accepted the SSH host key's fingerprint")
            self._standing.has(TROUBLE)


def listed(key: HostKey) -> str:
    """As `ssh-keygen -lf` lists it."""
    comment = "".join(key.public.split(" ", 2)[2:]).strip() or "no comment"
    return f"{key.bits} SHA256:{key.sha256} {comment} ({key.algorithm.upper()})"


def block(what: str, lines: Sequence[str]) -> list[str]:
    """The lines between their marks."""
    return [f"-----BEGIN SSH HOST KEY {what}-----", *lines, f"-----END SSH HOST KEY {what}-----"]


def chosen(keys: Sequence[HostKey], configured: str) -> HostKey:
    """The key that the platform hears of; `keys` are one at least."""
    wanted = OF_ALL if configured == "auto" else configured
    return next((key for key in keys if key.algorithm == wanted), keys[0])


def thumbprint(key: HostKey) -> str:
    """The fingerprint as the platform gets it: without colons."""
    return f"SHA256{key.sha256}"
