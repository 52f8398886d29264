# SPDX-License-Identifier: Apache-2.0
"""Owns having the plan made by the provisioning worker, and judged as a whole before anything of it is carried out.

Runs in the supervisor. What the worker hands back is compared with the OVF, never with what the worker says of it.
"""

import binascii
import os
from collections.abc import Callable

import msgspec

from ipc.channel import Received
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import AgentError, InputError
from ipc.messages import InputRefused, Message, PlanComplete, PlanProvisioning, StoreCustomData
from supervisor import validate
from supervisor.audit_log_entry import Audit, Entry, summary, unrecorded
from supervisor.fleet import Fleet

MAX_CUSTOM_DATA_BYTES = 8 << 20
# Where what is wrong stands: the document, or the settings.
OVF, OPTIONS = "ovf-env.xml", "waagent.conf"


class PlanRefused(AgentError):
    """What the worker proposed is not what OVF, settings and facts ask for: nothing of it was carried out."""


class Plan(msgspec.Struct, frozen=True):
    """Judged proposals in the order of their commits; `custom_data` is what is to be stored, None for nothing."""

    proposals: tuple[Message, ...]
    custom_data: bytes | None


async def plan(
    fleet: Fleet,
    request: PlanProvisioning,
    text: bytes,
    audit: Audit = unrecorded,
    at_work: Callable[[], None] = lambda: None,
) -> Plan:
    """The plan for `request`; `text` is the custom data as it stood in the document. `audit` hears of each decision,
    `at_work` is called while the plan is being made.

    InputError when the document can't be carried out, PlanRefused when the worker is not to be trusted."""
    memfd = sealed_memfd("custom-data", text)
    try:
        received = await fleet.do("provisioning", request, (memfd,), final=(PlanComplete,), at_work=at_work)
    finally:
        os.close(memfd)
    custom_data = _custom_data(received)
    last = received[-1][0]
    if isinstance(last, InputRefused):
        source = OPTIONS if last.where.startswith("Provisioning.") else OVF
        raise InputError(f"{source}, {last.where}", last.problem)
    proposals = tuple(message for message, _ in received[:-1])
    if not isinstance(last, PlanComplete) or last.proposals != len(proposals):
        raise PlanRefused("the provisioning worker's plan is not complete")
    _judge(proposals, request, text, custom_data, audit)
    return Plan(proposals, custom_data)


def _custom_data(received: list[Received]) -> bytes | None:
    """The bytes that came with the proposal to store custom data; all descriptors are closed."""
    try:
        for message, attached in received:
            if isinstance(message, StoreCustomData) and len(attached) == 1:
                return read_sealed(attached[0], MAX_CUSTOM_DATA_BYTES)
        return None
    finally:
        close_all([descriptor for _, attached in received for descriptor in attached])


def _judge(
    proposals: tuple[Message, ...], request: PlanProvisioning, text: bytes, custom_data: bytes | None, audit: Audit
) -> None:
    grounds = validate.Grounds(request.ovf, request.options, request.account, len(text), request.certificates)
    refusals = []
    for proposal in proposals:
        why = validate.refusal(proposal, grounds)
        audit(_decision(type(proposal).__name__, why, summary(proposal)))
        refusals += [] if why is None else [why]
    whole = None if refusals else validate.plan_refusal(proposals, grounds)
    if whole is not None:
        refusals.append(whole)
    sizes = [proposal.size_bytes for proposal in proposals if isinstance(proposal, StoreCustomData)]
    if sizes != ([] if custom_data is None else [len(custom_data)]):
        refusals.append("the custom data has not the size that was proposed")
    elif custom_data is not None and not _is_the_same(custom_data, text, decoded=request.options.decode_custom_data):
        refusals.append("the custom data is not the OVF's")
    audit(_decision(PlanComplete.__name__, "; ".join(refusals) or None, f"proposals: {len(proposals)}"))
    if refusals:
        raise PlanRefused(f"the provisioning worker's plan was refused: {'; '.join(refusals)}")


def _decision(request: str, why_not: str | None, told: str) -> Entry:
    """What was decided on a proposal, or (by the message that ends it) on the whole plan."""
    if why_not is None:
        return Entry("decision", kind="provisioning", request=request, decision="permitted", detail=told)
    return Entry("decision", kind="provisioning", request=request, decision="refused", detail=f"{why_not}: {told}")


def _is_the_same(custom_data: bytes, text: bytes, *, decoded: bool) -> bool:
    """Whether `custom_data` is what `text` stands for. Encoded and compared: here nothing is decoded."""
    if not decoded:
        return custom_data == text
    return binascii.b2a_base64(custom_data, newline=False) == b"".join(text.split())
