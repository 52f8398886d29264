# SPDX-License-Identifier: Apache-2.0
"""Owns the VM's certificates and keys: asked of the host, opened by the opener, kept, handed out by thumbprint.

Runs in the supervisor, which sees neither envelopes open nor keys: it hands descriptors from one to the other. What the
host sends can never fail a goal state (wire-protocol.md 5.2); what is wrong with it is in `problems`.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from ipc.descriptors import close_all
from ipc.errors import AgentError, HostError, HostUnreachable, ResourceGone
from ipc.messages import (
    CertificateFile,
    CertificatesOpened,
    InputRefused,
    Message,
    OpenCertificates,
    OpenPassword,
    Openssl,
    ParseCertificateFile,
    PasswordOpened,
)
from supervisor import options
from supervisor.certificate_store import Certificate
from supervisor.config import Config
from supervisor.files import read_text
from supervisor.loop import Promise
from supervisor.parts import Parts
from supervisor.wire.requests import CIPHERS

KIND = "opener"
# Its policy gives it longer: for the signature of a large package.
ENVELOPE_S = 20.0
# Of the whole reply, base64 and all: the parser takes what is in it.
MOST_BYTES = 2 * 1024 * 1024
# Of the calls to catch up, so many ask; of those after them, one in so many.
OFTEN, SELDOM = 100, 20
T = TypeVar("T", bound=Message)
FIPS_OF_KERNEL = "/proc/sys/crypto/fips_enabled"
UNCHANGED = "those that this VM has stay; asked again with the next polls"


class NotOpened(HostError):
    """An envelope that can't be opened, or what is in it can't be used."""


class NotWanted(AgentError):
    """The goal state that they came with is not to be had."""


class Certificates:
    """What is known survives this process; `problems` is what was wrong with the last reply, in sentences."""

    def __init__(self, parts: Parts, named: Callable[[], Collection[str]] = tuple) -> None:
        """`named` gives the thumbprints that are needed still, whatever the host sends now."""
        self.problems: tuple[str, ...] = ()
        self._ = parts
        self._named = named
        self._store = parts.credentials.certificates
        self._openssl = Openssl(parts.config[options.OPENSSL_PATH] or "", is_fips(parts.config))
        self._said: frozenset[str] = frozenset()
        # Where they are to be had, as long as nothing has come of asking; empty otherwise.
        self._owed = ""
        self._caught_up = 0

    @property
    def is_fips(self) -> bool:
        """Whether only what FIPS has is asked for and used."""
        return self._openssl.is_fips

    @property
    def known(self) -> Mapping[str, Certificate]:
        """By thumbprint. A reply that can't be read takes nothing away."""
        return self._store.known

    def private_key(self, thumbprint: str) -> int:
        """A sealed memfd with it in PEM, the caller's to close. LookupError where there is none."""
        return self._store.private_key(thumbprint)

    def certificate(self, thumbprint: str) -> int:
        """A descriptor of a file with it in PEM, the caller's to close. LookupError where there is none."""
        return self._store.certificate(thumbprint)

    def forget(self) -> None:
        """Remove all of them. StateError when that fails."""
        self._store.clear()

    def look_ahead(self) -> None:
        """A goal state has come, and `refresh` will be called: what opens the envelope is begun: that takes longest."""
        self._.fleet.prepared.begin(KIND)

    async def refresh(self, url: str, wanted: Promise[bool] | None = None) -> None:
        """Have what the host has at `url`, and nothing else that nobody needs; an empty `url`: it has nothing.

        With `wanted` all stays as it is until that comes true, and for good if it does not.
        Asked for with AES first, and only if that comes to nothing with 3DES, which FIPS does not have."""
        failures: list[str] = []
        problems: tuple[str, ...] | None = None
        for cipher in CIPHERS[:1] if self._openssl.is_fips else CIPHERS:
            try:
                problems = await self._take(url, cipher, wanted)
                break
            except NotWanted:
                break
            except AgentError as error:
                failures.append(f"asked for with {cipher}: {error}")
                if isinstance(error, HostUnreachable | ResourceGone):
                    # It has said nothing to AES: that is no reason to ask for less.
                    break
        # A reply without certificates has given it no work.
        self._.fleet.prepared.forgo(KIND)
        if problems is None and wanted is not None and not await wanted:
            return
        self.problems = tuple(map(self._.clean, failures if problems is None else problems))
        self._owed = url if problems is None else ""
        self._say_once((*failures, *((UNCHANGED,) if problems is None else problems)))

    async def catch_up(self) -> None:
        """Ask once more for what the last asking did not bring, if anything. To be called with each poll: a reply that
        stays bad costs two processes each time, so that later only some of the calls ask."""
        if not self._owed:
            self._caught_up = 0
            return
        self._caught_up += 1
        if self._caught_up < OFTEN or self._caught_up % SELDOM == 0:
            await self.refresh(self._owed)

    async def open_password(self, envelope: str) -> int:
        """What is in `envelope` (base64, wire-protocol.md 8), in UTF-8 in a sealed memfd, the caller's to close. It
        never comes into this process. AgentError when it can't be opened."""
        request = OpenPassword(self._openssl, envelope)
        _, (password,) = await self._open(request, (), PasswordOpened)
        return password

    async def _take(self, url: str, cipher: str, wanted: Promise[bool] | None) -> tuple[str, ...]:
        """What was left out of a reply that could be used. AgentError for any other."""
        if not url:
            return await self._keep(CertificatesOpened((), ()), (), wanted)
        # Begun now, the opener is there when the reply is.
        self._.fleet.prepared.begin(KIND)
        await self._.credentials.ensure()
        certificate = self._.credentials.certificate
        document = await self._.contact.host.fetch_sealed(url, "Certificates", MOST_BYTES, certificate, cipher)
        answer, given = await self._.contact.parse_with(
            ParseCertificateFile(), "certificates", document, CertificateFile
        )
        try:
            if answer.skipped:
                return (f"the format {answer.skipped!r} is not known: no certificate is taken",)
            if not os.fstat(given[0]).st_size:
                return await self._keep(CertificatesOpened((), ()), (), wanted)
            opened, files = await self._open(OpenCertificates(self._openssl), given, CertificatesOpened)
        finally:
            close_all(given)
        return await self._keep(opened, files, wanted)

    async def _keep(
        self, opened: CertificatesOpened, files: tuple[int, ...], wanted: Promise[bool] | None
    ) -> tuple[str, ...]:
        """Have exactly these from now on; `files` are closed. NotWanted when they are not to be had."""
        before = set(self.known)
        try:
            if wanted is not None and not await wanted:
                raise NotWanted
            self._store.take(opened, files, self._named())
        finally:
            close_all(files)
        self._tell_change(before)
        return opened.problems

    async def _open(self, request: Message, envelope: tuple[int, ...], kind: type[T]) -> tuple[T, tuple[int, ...]]:
        keys = self._.credentials.opening()
        try:
            received = await self._.fleet.do(KIND, request, (*envelope, *keys), final=(kind,), deadline_s=ENVELOPE_S)
        finally:
            close_all(keys)
        answer, files = received[-1]
        if isinstance(answer, kind):
            return answer, files
        close_all(files)
        said = f"{answer.where}: {answer.problem}" if isinstance(answer, InputRefused) else type(answer).__name__
        raise NotOpened(said)

    def _tell_change(self, before: Collection[str]) -> None:
        new, gone = set(self.known) - set(before), set(before) - set(self.known)
        for names, word in ((new, "now has"), (gone, "has no more")):
            if names:
                self._.say("info", "certificates", f"this VM {word} {', '.join(sorted(names))}")

    def _say_once(self, problems: Iterable[str]) -> None:
        """What was not said of the last reply already."""
        told = frozenset(problems)
        for text in sorted(told - self._said):
            self._.say("warning", "certificates", text)
        self._said = told


def is_fips(config: Config, kernel: str = FIPS_OF_KERNEL) -> bool:
    """Whether this machine is to use algorithms that FIPS has, and no others: by its kernel's word, or by ours."""
    return bool(config[options.ENABLE_FIPS]) or (read_text(kernel) or "").startswith("1")
