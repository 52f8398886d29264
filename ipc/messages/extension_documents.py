# SPDX-License-Identifier: Apache-2.0
"""Owns what the parser answers of the documents that extensions come with or leave; requests are in parsing.py.

Sources are storage, packages and vendors' programs: nothing in an answer is to be believed beyond its limits.
"""

from typing import Annotated, Literal

import msgspec

from ipc.messages.base import HandlerVersion, Message, Name, Short
from ipc.messages.extension_rules import MOST_SERVICES, ServiceLimits
from ipc.messages.host_documents import Url

Version = HandlerVersion
# A command line below a handler's folder, arguments included; empty: the handler has no such command.
CommandLine = Annotated[str, msgspec.Meta(max_length=4096)]
Told = Annotated[str, msgspec.Meta(max_length=10 * 1024)]
StatusWord = Literal["transitioning", "warning", "error", "success"]


class PackageChoice(Message, frozen=True):
    """The highest version that matches the wanted one, and where its package stands. `version` is empty if none does:
    then `problem` says which there are."""

    version: Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,9}(\.[0-9]{1,9}){0,3})?\Z")]
    uris: Annotated[tuple[Url, ...], msgspec.Meta(max_length=32)]
    problem: Short = ""


class HandlerManifest(Message, frozen=True):
    """extensions.md 5. Commands are as written, without a leading slash. `warnings`: values that were of no use, and
    what they count as."""

    install: CommandLine
    enable: CommandLine
    update: CommandLine
    disable: CommandLine
    uninstall: CommandLine
    reports_heartbeat: bool = False
    continues_on_update_failure: bool = False
    supports_multiple_extensions: bool = False
    installs_after_update: bool = True
    cpu_percent: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    memory_mib: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)] | None = None
    signing_type: Short = ""
    signing_publisher: Short = ""
    signing_version: Short = ""
    warnings: Annotated[tuple[Short, ...], msgspec.Meta(max_length=16)] = ()
    services: Annotated[tuple[ServiceLimits, ...], msgspec.Meta(max_length=MOST_SERVICES)] = ()


class Substatus(Message, frozen=True):
    """A part of an extension's status; what was cut off ends in ` ... [TRUNCATED]`."""

    name: Told
    status: StatusWord
    code: int
    message: Told


class ExtensionStatus(Message, frozen=True):
    """extensions.md 9, as far as it is told to the host. `code` 1012 and "error" for what is no status file.

    `substatuses` fill a frame at most: `dropped` is how many more there were."""

    name: Short
    operation: Short
    configuration_applied_time: Short
    status: StatusWord
    code: int
    message: Told
    language: Short = "en-US"
    substatuses: Annotated[tuple[Substatus, ...], msgspec.Meta(max_length=512)] = ()
    dropped: int = 0


class Heartbeat(Message, frozen=True):
    """What a handler says of itself. `status` is as written: Ready, NotReady or else."""

    status: Short
    code: int
    message: Told


class PolicyEntry(Message, frozen=True):
    """One listed handler; `signature_required` is None where its entry does not say."""

    name: Name
    signature_required: bool | None = None


class ExtensionPolicyFile(Message, frozen=True):
    """extensions.md 4.1; names as written, to be compared without regard to case."""

    version: Short
    listed_only: bool
    signature_required: bool
    entries: Annotated[tuple[PolicyEntry, ...], msgspec.Meta(max_length=1024)]
