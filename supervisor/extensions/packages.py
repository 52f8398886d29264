# SPDX-License-Identifier: Apache-2.0
"""Owns handlers' packages until they are laid down: fetched, verified, unpacked, judged.

Runs in the supervisor, which sees no byte of a package: it hands descriptors from one worker to the next. Until it is
placed nothing of a package has a name, so that nothing is left of one that came to nothing.
"""

import os
from collections.abc import Sequence
from functools import partial

import msgspec

from ipc.descriptors import close_all, sealed_memfd
from ipc.errors import AgentError, HostError, StateError
from ipc.messages import (
    HandlerManifest,
    InputRefused,
    Openssl,
    PackageRefused,
    PackageUnpacked,
    PackageVerified,
    ParseHandlerManifest,
    SignatureRefused,
    UnpackPackage,
    VerifyPackage,
)
from ipc.messages.handler_packages import MOST_ENTRIES, MOST_PACKAGE_BYTES, MOST_UNPACKED_BYTES
from supervisor import options
from supervisor.artifacts import Artifacts
from supervisor.certificates import is_fips
from supervisor.extensions.handler_folders import COMMITTER, HandlerFolders
from supervisor.extensions.nameless import Nameless
from supervisor.extensions.trust import Anchors
from supervisor.parts import Parts
from supervisor.prepared import Errand

# extensions.md 8: a download that comes to nothing, a package without a manifest or with a bad one, one not allowed.
NOT_FETCHED, NO_MANIFEST, BAD_MANIFEST, NOT_ALLOWED = 1001, 1002, 1003, 1009
MOST_TOLD = 900


class PackageProblem(AgentError):
    """Nothing can be placed: `code` is what the host is told (extensions.md 8), `text` why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Obtained:
    """A package that is as it has to be, and not placed yet. `signer` is empty if it is not known to be signed, and
    `unsigned` then says why, if there is a signature. To be closed."""

    def __init__(self, manifest: HandlerManifest, unpacked: PackageUnpacked, files: tuple[int, int, Nameless]) -> None:
        self.manifest = manifest
        self.unpacked = unpacked
        self.signer, self.unsigned = "", ""
        self._index, self._text, self._contents = files

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """Index, text of the manifest, contents."""
        return self._index, self._text, self._contents.readable

    def close(self) -> None:
        """Let go of it: what is not placed is no more."""
        if self._index >= 0:
            close_all((self._index, self._text))
            self._contents.close()
            self._index = self._text = -1


class Packages(HandlerFolders):
    """All packages of one machine, and the folders made of them; `anchors` are who may sign them."""

    def __init__(self, parts: Parts, artifacts: Artifacts, anchors: Anchors) -> None:
        super().__init__(parts)
        self._artifacts = artifacts
        self._anchors = anchors
        self._openssl = Openssl(parts.config[options.OPENSSL_PATH] or "", is_fips(parts.config))
        for problem in anchors.problems:
            parts.say("warning", "extensions", problem)

    async def obtain(  # noqa: PLR0913, PLR0917 - a package and its conditions
        self,
        handler: str,
        version: str,
        uris: Sequence[str],
        manifest_url: str,
        signature: bytes = b"",
        must_be_signed: bool = False,
    ) -> Obtained:
        """The package of `handler`, from the first of `uris` that has it whole and right. PackageProblem otherwise.

        Nothing is known of it but what its signature says: without one it is what storage, asked by TLS, has there."""
        if must_be_signed and not signature:
            raise PackageProblem(NOT_ALLOWED, f"{handler} {version} has to be signed, and comes without a signature")
        if must_be_signed and not self._anchors.pem:
            raise PackageProblem(NOT_ALLOWED, f"{handler} {version} has to be signed, and {_NOBODY}")
        wanted = _Wanted(handler, version, signature, must_be_signed)
        trial = _Trial(self, wanted)
        # Ready when the package is there.
        self._.fleet.prepared.begin("unpacker")
        if signature and self._anchors.pem:
            self._.fleet.prepared.begin("opener")
        try:
            await self._artifacts.fetch_file(
                uris,
                f"the package of {handler} {version}",
                lambda: Nameless(self._.layout.state),
                trial.use,
                most_bytes=MOST_PACKAGE_BYTES,
                manifest_url=manifest_url,
                errand=Errand(handler, is_over=True),
            )
        except HostError as error:
            raise PackageProblem(trial.code, str(error)[:MOST_TOLD]) from None
        except StateError as error:
            raise PackageProblem(NOT_FETCHED, f"{handler} {version} can't be kept: {error}"[:MOST_TOLD]) from None
        if trial.obtained is None:
            raise PackageProblem(NOT_FETCHED, f"{handler} {version}: nothing was fetched")
        if trial.obtained.unsigned:
            self._.say("warning", "extensions", f"{handler} {version} is not signed: {trial.obtained.unsigned}")
        return trial.obtained

    async def signer(self, package: int, signature: bytes) -> tuple[str, str]:
        """Who has signed it, or nobody and why."""
        if not self._anchors.pem:
            return "", _NOBODY
        given = package, sealed_memfd("signature", signature), sealed_memfd("authorities", self._anchors.pem)
        final = (PackageVerified, SignatureRefused)
        try:
            answer = await self._ask("opener", VerifyPackage(self._openssl), given, final)
        finally:
            close_all(given[1:])
        if isinstance(answer, PackageVerified):
            return answer.signer or "somebody without a name", ""
        return "", answer.problem if isinstance(answer, SignatureRefused | InputRefused) else "it can't be told"

    async def unpacked(self, package: int) -> Obtained:
        """What is in it. PackageProblem when it is no package of a handler."""
        contents = Nameless(self._.layout.state)
        files: tuple[int, ...] = ()
        try:
            request = UnpackPackage(MOST_ENTRIES, MOST_UNPACKED_BYTES)
            final = (PackageUnpacked, PackageRefused)
            given = package, contents.writable
            next_one = partial(self._.fleet.prepared.begin, "parser")
            received = await self._.fleet.do("unpacker", request, given, final=final, at_work=next_one)
            answer, files = received[-1]
            if not isinstance(answer, PackageUnpacked):
                problem = answer.problem if isinstance(answer, PackageRefused | InputRefused) else "can't be unpacked"
                raise PackageProblem(NOT_FETCHED, f"the package is refused: {problem}")
            await contents.settle(self._.loop, answer.size)
            return Obtained(await self._manifest(files[1]), answer, (files[0], files[1], contents))
        except AgentError:
            close_all(files)
            contents.close()
            raise

    async def _manifest(self, text: int) -> HandlerManifest:
        if not os.fstat(text).st_size:
            raise PackageProblem(NO_MANIFEST, "the package has no HandlerManifest.json")
        self._.fleet.prepared.begin(COMMITTER)
        answer = await self._ask("parser", ParseHandlerManifest(), (text,), (HandlerManifest,))
        if not isinstance(answer, HandlerManifest):
            told = f"{answer.where}: {answer.problem}" if isinstance(answer, InputRefused) else "can't be read"
            raise PackageProblem(BAD_MANIFEST, f"the package's HandlerManifest.json: {told}")
        return answer


_NOBODY = "no authority is trusted on this machine: there is none in /etc/agent-supervisor/trust.d"


class _Wanted(msgspec.Struct, frozen=True):
    """Whose package, and by whom it is to be signed."""

    handler: str
    version: str
    signature: bytes
    must_be_signed: bool


class _Trial:
    """What each place's package is tried for; `code` is that of the last one's problem."""

    def __init__(self, packages: Packages, wanted: _Wanted) -> None:
        self.obtained: Obtained | None = None
        self.code = NOT_FETCHED
        self._packages = packages
        self._wanted = wanted

    async def use(self, package: int) -> str:
        """What is wrong with it, or nothing and it is obtained."""
        self.code = NOT_FETCHED
        signer, unsigned, wanted = "", "", self._wanted
        try:
            if wanted.signature:
                signer, unsigned = await self._packages.signer(package, wanted.signature)
            if wanted.must_be_signed and not signer:
                self.code = NOT_ALLOWED
                return f"it has to be signed: {unsigned}"
            obtained = await self._packages.unpacked(package)
        except PackageProblem as problem:
            self.code = problem.code
            return problem.text
        except AgentError as error:
            return str(error)
        mismatch = _mismatch(obtained.manifest, wanted) if signer else ""
        if mismatch and wanted.must_be_signed:
            obtained.close()
            self.code = NOT_ALLOWED
            return f"it is signed as another one: {mismatch}"
        obtained.signer, obtained.unsigned = ("", mismatch) if mismatch else (signer, unsigned)
        self.obtained = obtained
        return ""


def _mismatch(manifest: HandlerManifest, wanted: _Wanted) -> str:
    """What the signed package says of itself, where that is not what was asked for (extensions.md 7.4)."""
    publisher, _, kind = wanted.handler.rpartition(".")
    for name, told, due in (
        ("publisher", manifest.signing_publisher, publisher),
        ("type", manifest.signing_type, kind),
        ("version", manifest.signing_version, wanted.version),
    ):
        if told.lower() != due.lower():
            return f"signingInfo.{name} is {told!r}, and {due!r} is expected"
    return ""
