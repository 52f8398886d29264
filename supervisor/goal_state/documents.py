# SPDX-License-Identifier: Apache-2.0
"""Owns the documents that one goal state of the WireServer names: all of them, or none (wire-protocol.md 4.1).

Runs in the supervisor. It hands each to a parser of its own, and keeps of them what outsiders or the history read.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from ipc.digest import sha256
from ipc.messages import (
    ExtensionsGoalState,
    GoalState,
    HostingEnvironment,
    Message,
    ParseExtensionsConfig,
    ParseHostingEnvironment,
    ParseRemoteAccess,
    RemoteAccess,
    StatusBlob,
)
from ipc.messages.host_documents import EARLIEST
from supervisor.contact import Contact, NoRoleInstance
from supervisor.goal_state.settings import NO_SETTINGS, SettingsBundle, taken
from supervisor.loop import Loop, Promise

if TYPE_CHECKING:
    from ipc.messages import RoleInstance

# Real ones have some hundred KiB at the most; a parser takes no more than this.
MOST_BYTES = 2 << 20
MOST_SMALL_BYTES = 1 << 20
# Beside the goal state's own parser: those of ExtensionsConfig and Certificates, which change most often.
AHEAD = 2
# The one cipher that the host is asked to use for passwords (wire-protocol.md 3, request 7).
CIPHER = "AES128_CBC"
NO_EXTENSIONS = ExtensionsGoalState(
    source="Fabric",
    created=EARLIEST,
    in_svd_sequence_number="",
    activity_id="",
    correlation_id="",
    on_hold=False,
    status_blob=StatusBlob("", "BlockBlob"),
    profile_url="",
    required_features=(),
    families=(),
    plugins=(),
)

T = TypeVar("T", bound=Message)


class Certificates(Protocol):
    """The VM's certificates, as far as a goal state brings them: kept when `wanted` comes true."""

    def look_ahead(self) -> None: ...

    def refresh(self, url: str, wanted: Promise[bool]) -> Coroutine[Promise[Any], None, None]: ...

    def catch_up(self) -> Coroutine[Promise[Any], None, None]: ...


class Fetched(msgspec.Struct, frozen=True):
    """What one goal state brought. `files` are, by their names, what the history keeps: nothing in them is secret.

    `remote_access` is what it says of accounts, None where it names none; `accounts_told` is False where it names some
    that could not be asked for: then nothing follows for accounts. `certificates` is kept once they have been taken:
    they are never the fault of a goal state, and not always needed. `bundle` goes with `extensions`."""

    goal_state: GoalState
    extensions: ExtensionsGoalState
    bundle: SettingsBundle
    environment: HostingEnvironment
    shared_config: bytes
    remote_access: RemoteAccess | None
    accounts_told: bool
    files: dict[str, bytes]
    certificates: Promise[None]


class Documents:
    """Fetches them. `transport_certificate` gives it in PEM, empty while there is none."""

    def __init__(
        self,
        loop: Loop,
        contact: Contact,
        certificates: Certificates,
        transport_certificate: Callable[[], str],
        prepare: Callable[[int], None],
    ) -> None:
        """`prepare` has so many parsers begun before their documents are there."""
        self._loop = loop
        self._contact = contact
        self._certificates = certificates
        self._transport_certificate = transport_certificate
        self._prepare = prepare
        # The last HostingEnvironmentConfig, in which hardly anything ever changes: its digest, and what it says.
        self._environment: tuple[bytes, HostingEnvironment] | None = None

    def look_ahead(self) -> None:
        """A new goal state has come and is still to be read: its documents will be asked for next."""
        self._prepare(AHEAD)
        self._certificates.look_ahead()

    async def fetch(self, goal_state: GoalState, document: bytes) -> Fetched:
        """All that `goal_state` names; `document` is its own text. HostError when any of it can't be had or read.

        One document is read while the next is fetched; certificates, which take longest, while others are read. They
        are taken when all of these could be."""
        role = goal_state.role_instance
        if role is None:
            raise NoRoleInstance(f"goal state {goal_state.incarnation} names no role instance yet")
        files = {"GoalState.xml": document}
        fetch = self._contact.host.fetch
        self._prepare(1)
        extensions = self._loop.start("extensions config", await self._extensions(role, files))
        self._prepare(1)
        content = await fetch(role.hosting_environment_url, "HostingEnvironmentConfig", MOST_SMALL_BYTES)
        files["HostingEnvironmentConfig.xml"] = content
        environment = self._loop.start("hosting environment", self._read_environment(content, goal_state.incarnation))
        shared_config = await fetch(role.shared_config_url, "SharedConfig", MOST_SMALL_BYTES)
        files["SharedConfig.xml"] = shared_config
        accounts = self._loop.start("accounts", await self._accounts(goal_state.remote_access_url))
        usable = Promise[bool]()
        refresh = self._certificates.refresh(role.certificates_url, usable)
        certificates = self._loop.start("certificates", refresh, at_once=True)
        try:
            await self._loop.all(extensions, environment, accounts)
            usable.fulfil(True)
        finally:
            usable.fulfil(False)  # of two outcomes the first counts
        wanted, bundle = extensions.result()
        remote_access, accounts_told = accounts.result()
        if remote_access is not None:
            files["RemoteAccess.json"] = _accounts(remote_access)
        return Fetched(
            goal_state,
            wanted,
            bundle,
            environment.result(),
            shared_config,
            remote_access,
            accounts_told,
            files,
            certificates,
        )

    async def catch_up(self) -> None:
        """Ask once more for certificates that were not to be had with their goal state, which did not wait for them."""
        await self._certificates.catch_up()

    async def _extensions(
        self, role: "RoleInstance", files: dict[str, bytes]
    ) -> Coroutine[Promise[Any], None, tuple[ExtensionsGoalState, SettingsBundle]]:
        """The reading of the ExtensionsConfig, once it is fetched; of none where the goal state names none."""
        if not role.extensions_config_url:
            return _nothing()
        content = await self._contact.host.fetch(role.extensions_config_url, "ExtensionsConfig", MOST_BYTES)
        return self._read_extensions(content, files)

    async def _read_extensions(
        self, content: bytes, files: dict[str, bytes]
    ) -> tuple[ExtensionsGoalState, SettingsBundle]:
        request = ParseExtensionsConfig()
        answer, descriptors = await self._contact.parse_with(request, "extensions-config", content, ExtensionsGoalState)
        files["ExtensionsConfig.xml"], bundle = taken(descriptors)
        return answer, bundle

    async def _read_environment(self, content: bytes, incarnation: str) -> HostingEnvironment:
        digest = _but_for(incarnation, content)
        if self._environment is None or self._environment[0] != digest:
            request = ParseHostingEnvironment()
            read = await self._contact.parse(request, "hosting-environment", content, HostingEnvironment)
            self._environment = digest, read
        return self._environment[1]

    async def _accounts(self, url: str) -> Coroutine[Promise[Any], None, tuple[RemoteAccess | None, bool]]:
        """The reading of the RemoteAccess, once it is fetched, and whether it could be asked for."""
        certificate = self._transport_certificate()
        if not url or not certificate:
            return _no_accounts(told=not url)
        content = await self._contact.host.fetch_sealed(url, "RemoteAccess", MOST_SMALL_BYTES, certificate, CIPHER)
        return self._read_accounts(content)

    async def _read_accounts(self, content: bytes) -> tuple[RemoteAccess | None, bool]:
        return await self._contact.parse(ParseRemoteAccess(), "remote-access", content, RemoteAccess), True


async def _nothing() -> tuple[ExtensionsGoalState, SettingsBundle]:
    """What a goal state without an ExtensionsConfig wants."""
    return NO_EXTENSIONS, NO_SETTINGS


async def _no_accounts(*, told: bool) -> tuple[RemoteAccess | None, bool]:
    """What a goal state says of accounts that names none, or some that can't be asked for."""
    return None, told


def _but_for(incarnation: str, content: bytes) -> bytes:
    """A digest of all but the goal state's number: another document with the same one is as well formed, and says the
    same, as long as both numbers are digits."""
    quoted = f'"{incarnation}"'.encode() if incarnation.isdecimal() else b"\0"
    return sha256(piece + b"\0" for piece in content.split(quoted))


def _accounts(remote_access: RemoteAccess) -> bytes:
    """Who may log in until when, without the envelopes of the passwords."""
    users = [{"name": user.name, "expires": user.expires_s, "problem": user.problem} for user in remote_access.users]
    return msgspec.json.encode({"incarnation": remote_access.incarnation, "users": users})
