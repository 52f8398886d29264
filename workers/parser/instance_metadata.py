# SPDX-License-Identifier: Apache-2.0
"""Owns the reply of the instance metadata service (wire-protocol.md 14): its bytes to what telemetry tells of the VM.

Runs in the parser. The reply is that about all of the instance, or the part about computing alone.
"""

from typing import Any

import msgspec

from ipc.errors import InputError
from ipc.messages import InstanceMetadata
from workers.parser.answer import fitting
from workers.parser.json_document import decode, typed

UNKNOWN, CUSTOM, ENDORSED, PLATFORM = range(4)
# Who publishes the Linux images that Azure endorses -> how their offers begin.
ENDORSED_OFFERS = {
    "canonical": ("ubuntuserver", "0001-com-ubuntu", "ubuntu-"),
    "coreos": ("coreos",),
    "credativ": ("debian",),
    "debian": ("debian",),
    "kinvolk": ("flatcar",),
    "openlogic": ("centos",),
    "oracle": ("oracle-linux",),
    "redhat": ("rhel",),
    "suse": ("sles", "opensuse", "suse"),
}


class _Compute(msgspec.Struct, rename="camel"):
    location: str = ""
    subscription_id: str = ""
    resource_group_name: str = ""
    vm_id: str = ""
    publisher: str | None = None
    offer: str | None = None
    sku: str | None = None


def parse(document: bytes) -> InstanceMetadata:
    """Raises InputError that names the field."""
    found = decode(document, Any)
    if not isinstance(found, dict):
        raise InputError("document", "is no object")
    compute = typed(found.get("compute", found), _Compute)
    return fitting(
        InstanceMetadata(
            location=compute.location,
            subscription_id=compute.subscription_id,
            resource_group=compute.resource_group_name,
            vm_id=compute.vm_id,
            image_origin=_origin(compute),
            is_whole=_is_whole(found),
        )
    )


def _origin(compute: _Compute) -> int:
    if compute.publisher is None or compute.offer is None or compute.sku is None:
        return UNKNOWN
    if not (compute.publisher and compute.offer and compute.sku):
        return CUSTOM
    offers = ENDORSED_OFFERS.get(compute.publisher.lower(), ())
    return ENDORSED if compute.offer.lower().startswith(offers) else PLATFORM


def _is_whole(found: dict[str, Any]) -> bool:
    match found:
        case {
            "network": {
                "interface": [{"macAddress": str(mac), "ipv4": {"ipAddress": [{"privateIpAddress": str(ip)}, *_]}}, *_]
            }
        }:
            return bool(mac and ip)
    return False
