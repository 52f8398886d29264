# SPDX-License-Identifier: Apache-2.0
"""Entry of the provisioning worker: receive the typed OVF, plan, send the proposals, be gone; or hash one password.

Runs with a uid of its own and nothing else. It never sees XML and never writes a file.
"""

from collections.abc import Callable, Iterable

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import BadDescriptor, InputError
from ipc.messages import HashPassword, PasswordHashed, PlanComplete, PlanProvisioning, StoreCustomData
from ipc.secret import Secret
from workers.provisioning.grammar import custom_data
from workers.provisioning.password_hash import hash_password
from workers.provisioning.plan import plan
from workers.runtime import Answer, serve_once

LARGEST_CUSTOM_DATA = 1024 * 1024
LARGEST_PASSWORD = 4096


def on_plan_provisioning(request: PlanProvisioning, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    """The proposals, then `PlanComplete` with their number. InputError before the first one if the OVF is unusable."""
    try:
        if len(descriptors) != 1:
            raise BadDescriptor(f"{len(descriptors)} descriptors came where the custom data was due")
        text = read_sealed(descriptors[0], LARGEST_CUSTOM_DATA)
    finally:
        close_all(descriptors)
    stored = custom_data(text, request.options.decode_custom_data) if request.ovf.has_custom_data else b""
    proposals = plan(request, stored, hash_password)
    for proposal in proposals:
        if isinstance(proposal, StoreCustomData):
            yield proposal, (sealed_memfd("custom-data", stored),)
        else:
            yield proposal
    yield PlanComplete(len(proposals))


def on_hash_password(request: HashPassword, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    """The hash of a JIT account's password. InputError for one that can't be used."""
    try:
        if len(descriptors) != 1:
            raise BadDescriptor(f"{len(descriptors)} descriptors came where the password was due")
        text = read_sealed(descriptors[0], LARGEST_PASSWORD)
    finally:
        close_all(descriptors)
    try:
        password = Secret(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError("Password", "is not text") from None
    if not text:
        raise InputError("Password", "is empty")
    yield PasswordHashed(hash_password(password, request.password_crypt_id, request.password_salt))


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve_once(channel, lock, {PlanProvisioning: on_plan_provisioning, HashPassword: on_hash_password})
