# SPDX-License-Identifier: Apache-2.0
"""Owns how a vendor's command is started, looked at and ended: orders to the committer `handler-start`.

What is run stands in a folder of the order's number, which root alone can read: no message carries it.
"""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Short
from ipc.messages.extension_rules import MOST_SERVICES, HandlerLimits, ServiceLimits

# Where the folders are, root's alone, one for each number.
ORDERS = "/run/agent-supervisor/handlers"
Number = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
Unit = Annotated[str, msgspec.Meta(pattern=r"^agent-supervisor-handler-[0-9]{1,17}\.service\Z")]
Slice = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^azure-vmextensions-[A-Za-z0-9_.]+\.slice\Z")]

PlainPath = Annotated[str, msgspec.Meta(max_length=512, pattern=r"^(/[A-Za-z0-9_.-]+)+\Z")]
PlainName = Annotated[str, msgspec.Meta(max_length=255, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")]


class Containment(Message, frozen=True):
    """What a contained command sees and writes beside what anybody may read: `folders` in `lib`, its own; the handler's
    folder in `log_folder`; the key pair called `thumbprint`, if any, which lies beside the order; the machine's
    `network`, or none; `outbound`: as much of it as the order names, which its warden sees to."""

    lib: PlainPath
    folders: Annotated[tuple[PlainName, ...], msgspec.Meta(max_length=8)]
    log_folder: PlainPath
    handler: PlainName
    thumbprint: Annotated[str, msgspec.Meta(pattern=r"^([0-9A-F]{40})?\Z")] = ""
    network: bool = True
    outbound: bool = False


class StartCommand(Message, frozen=True):
    """Have systemd start the order of that number, in a unit and a slice of the handler's own; it is ended, all of its
    cgroup, after `timeout_s`. `limits` are the slice's from now on; None: it has none, and had none in this boot. With
    `containment` it is confined by systemd, and has an account of its own. First `services`, those of them that
    there are, get these limits.

    The answer is CommandStanding. A unit of that name that systemd knows already is looked at, and none is started."""

    number: Number
    description: Short
    slice: Slice
    limits: HandlerLimits | None
    timeout_s: Annotated[int, msgspec.Meta(ge=1, le=86400)]
    containment: Containment | None = None
    services: Annotated[tuple[ServiceLimits, ...], msgspec.Meta(max_length=MOST_SERVICES)] = ()


class MakeSlice(Message, frozen=True):
    """Have systemd make a handler's slice, before there is anything in it. The answer is Committed."""

    slice: Slice


class AskCommand(Message, frozen=True):
    """How is the order of that number? The answer is CommandStanding."""

    number: Number


class CommandStanding(Message, frozen=True):
    """What systemd knows. One descriptor, the pidfd of its first process, while `is_running`; else none.

    `is_known` False: it was never started in this boot, or has been forgotten. `exit_status` is that of the first
    process, None where a signal ended it, or `timed_out`. `lives`: that has ended, and others of the unit live on."""

    is_known: bool
    is_running: bool
    timed_out: bool = False
    exit_status: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    lives: bool = False


class EndCommand(Message, frozen=True):
    """Kill all that lives of the order of that number, if `kill`; then have systemd forget it, unless something of it
    lives on. The answer is Committed."""

    number: Number
    kill: bool
