# SPDX-License-Identifier: Apache-2.0
"""Entry of the provisioning worker: receive the typed OVF, plan, send the proposals, be gone.

Runs with a uid of its own and nothing else. It never sees XML and never writes a file.
"""

from collections.abc import Callable, Iterable

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import BadDescriptor
from ipc.messages import PlanComplete, PlanProvisioning, StoreCustomData
from workers.provisioning.grammar import custom_data
from workers.provisioning.password_hash import hash_password
from workers.provisioning.plan import plan
from workers.runtime import Answer, serve_once

LARGEST_CUSTOM_DATA = 1024 * 1024


def on_plan_provisioning(request: PlanProvisioning, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    """The proposals, then `PlanComplete` with their number. InputError before the first one if the OVF is unusable."""
    try:
        if len(descriptors) != 1:
            raise BadDescriptor(f"{len(descriptors)} descriptors came where the custom data was due")
        text = read_sealed(descriptors[0], LARGEST_CUSTOM_DATA)
    finally:
        close_all(descriptors)
    stored = custom_data(text, request.options.decode_custom_data) if request.ovf.has_custom_data else b""
    proposals = plan(request.ovf, request.options, request.account, stored, hash_password)
    for proposal in proposals:
        if isinstance(proposal, StoreCustomData):
            yield proposal, (sealed_memfd("custom-data", stored),)
        else:
            yield proposal
    yield PlanComplete(len(proposals))


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve_once(channel, lock, {PlanProvisioning: on_plan_provisioning})
