# SPDX-License-Identifier: Apache-2.0
"""The provisioning DVD: images in every form that Azure, its neighbours and an attacker may attach; nothing is mounted.

As a command: `python -m tests.fabric.media OUT.iso --user NAME --host-name NAME [--format udf|iso|bridge|wiped]`.
"""

import argparse
import base64
import io
import random
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import pycdlib

from tests.fabric.udf_writer import UdfForm, make_udf

OVF_NAME = "ovf-env.xml"
TYPICAL_BYTES = 2 * 1024 * 1024

_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1"'
    ' xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"'
    ' xmlns:wa="http://schemas.microsoft.com/windowsazure"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
    "  <wa:ProvisioningSection>\n"
)
_CONFIGURATION = (
    '    <LinuxProvisioningConfigurationSet xmlns="http://schemas.microsoft.com/windowsazure"'
    ' xmlns:i="http://www.w3.org/2001/XMLSchema-instance">\n'
    "      <ConfigurationSetType>LinuxProvisioningConfiguration</ConfigurationSetType>\n"
)
_MIDDLE = "    </LinuxProvisioningConfigurationSet>\n  </wa:ProvisioningSection>\n  <wa:PlatformSettingsSection>\n"
_TAIL = "    </wa:PlatformSettings>\n  </wa:PlatformSettingsSection>\n</Environment>\n"


def make_ovf(
    user: str | None = "azureuser",
    password: str | None = None,
    host_name: str | None = "vm1",
    keys: Sequence[str] = (),
    custom_data: bytes | str | None = None,
    *,
    key_path: str | None = None,
    fingerprints: Sequence[str] = (),
    key_pairs: Sequence[tuple[str, str]] = (),
    disable_password: bool | None = None,
    provision_guest_agent: str | None = "true",
    version: str | None = "1.0",
) -> bytes:
    """ovf-env.xml as Azure writes it. None leaves an element out; bytes as custom data are put in base64.

    `keys` are OpenSSH lines and `fingerprints` thumbprints, all for `key_path` (the user's authorized_keys);
    `key_pairs` are (path, thumbprint)."""
    path = f"/home/{user}/.ssh/authorized_keys" if key_path is None else key_path
    public = [
        _element("PublicKey", _text("Fingerprint", "") + _text("Path", path) + _text("Value", key)) for key in keys
    ]
    public += [_element("PublicKey", _text("Fingerprint", mark) + _text("Path", path)) for mark in fingerprints]
    pairs = [_element("KeyPair", _text("Fingerprint", mark) + _text("Path", place)) for place, mark in key_pairs]
    ssh = _element("PublicKeys", "".join(public)) + _element("KeyPairs", "".join(pairs))
    if isinstance(custom_data, bytes):
        custom_data = base64.b64encode(custom_data).decode()
    disable = None if disable_password is None else str(disable_password).lower()
    configuration = "".join(
        (
            _text("HostName", host_name),
            _text("UserName", user),
            _text("UserPassword", password),
            _text("DisableSshPasswordAuthentication", disable),
            _element("SSH", ssh) if public or pairs else "",
            _text("CustomData", custom_data),
        )
    )
    platform = "".join(
        (
            _text("wa:KmsServerHostname", "kms.core.windows.net"),
            _text("wa:ProvisionGuestAgent", provision_guest_agent),
            '<wa:GuestAgentPackageName xsi:nil="true"/>\n',
            _text("wa:RetainWindowsPEPassInUnattend", "true"),
            _text("wa:RetainOfflineServicingPassInUnattend", "true"),
            _text("wa:PreprovisionedVm", "false"),
        )
    )
    head = _HEAD + _text("wa:Version", version) + _CONFIGURATION + configuration + _MIDDLE
    return (head + _text("wa:Version", "1.0") + "<wa:PlatformSettings>\n" + platform + _TAIL).encode()


def _text(name: str, text: str | None) -> str:
    return "" if text is None else f"<{name}>{escape(text)}</{name}>\n"


def _element(name: str, content: str) -> str:
    return f"<{name}>\n{content}</{name}>\n"


def make_iso(
    ovf: bytes, *, rock_ridge: bool = True, joliet: bool = True, udf: bool = False, plain_name: str = "OVF_ENV.XML"
) -> bytes:
    """An ISO9660 image with the name spaces asked for; with `udf` it is a bridge."""
    iso = pycdlib.PyCdlib()
    iso.new(
        interchange_level=4 if plain_name != plain_name.upper() or "-" in plain_name else 3,
        vol_ident="OVF ENVIRONMENT",
        joliet=3 if joliet else None,
        rock_ridge="1.09" if rock_ridge else None,
        udf="2.60" if udf else None,
    )
    iso.add_fp(
        io.BytesIO(ovf),
        len(ovf),
        f"/{plain_name};1",
        rr_name=OVF_NAME if rock_ridge else None,
        joliet_path=f"/{OVF_NAME}" if joliet else None,
        udf_path=f"/{OVF_NAME}" if udf else None,
    )
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()


def make_bridge(ovf: bytes) -> bytes:
    """One file in ISO9660, Joliet, Rock Ridge and UDF at once."""
    return make_iso(ovf, udf=True)


def wipe_iso_descriptors(bridge: bytes) -> bytes:
    """The bridge without its ISO9660 volume descriptors: only UDF leads to the file."""
    image = bytearray(bridge)
    for start in range(16 * 2048, 64 * 2048, 2048):
        if image[start + 1 : start + 6] == b"CD001":
            image[start : start + 2048] = bytes(2048)
    return bytes(image)


def make_medium(ovf: bytes, form: str) -> bytes:
    """An image by name: udf, iso, bridge or wiped (a bridge without ISO9660 descriptors)."""
    match form:
        case "udf":
            return make_udf(ovf, UdfForm(least_bytes=TYPICAL_BYTES))
        case "iso":
            return make_iso(ovf)
        case "bridge":
            return make_bridge(ovf)
        case "wiped":
            return wipe_iso_descriptors(make_bridge(ovf))
    raise ValueError(f"no form of medium is called {form!r}")


def damaged_media(ovf: bytes) -> dict[str, bytes]:
    """Media that hold no readable ovf-env.xml, by what is wrong with them."""
    whole = make_udf(ovf, UdfForm(fragments=2, continued=True))
    file_set = whole.rindex(b"OSTA Compressed Unicode", 288 * 2048) // 2048 * 2048
    return {
        "empty": b"",
        "one byte": b"\0",
        "zeros": bytes(TYPICAL_BYTES),
        "random": random.Random(2).randbytes(1024 * 1024),
        "text": ovf,
        "truncated before the anchor": whole[: 100 * 2048],
        "truncated in the partition": whole[: file_set + 100],
        "wrong checksum": whole[: file_set + 4] + bytes([whole[file_set + 4] ^ 1]) + whole[file_set + 5 :],
        "directory loop": make_udf(ovf, UdfForm(fault="directory-loop")),
        "continuation loop": make_udf(ovf, UdfForm(fault="continuation-loop", fragments=2, continued=True)),
        "sequence loop": make_udf(ovf, UdfForm(fault="sequence-loop")),
        "version loop": make_udf(ovf, UdfForm(fault="version-loop", strategy=4096)),
        "extent past the end": make_udf(ovf, UdfForm(fault="extent-past-end")),
        "4 GiB claimed": make_udf(ovf, UdfForm(fault="claims-4-gib")),
        "no ovf-env.xml": make_udf(ovf, UdfForm(file_name="other.xml")),
        "iso truncated": make_iso(ovf)[: 20 * 2048],
    }


def main() -> None:
    """Write one image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--user", default="azureuser")
    parser.add_argument("--password")
    parser.add_argument("--host-name", default="vm1")
    parser.add_argument("--key", action="append", default=[], help="an OpenSSH public key; may be repeated")
    parser.add_argument("--custom-data", type=Path, help="a file")
    parser.add_argument("--disable-password", action="store_true")
    parser.add_argument("--no-guest-agent", action="store_true")
    parser.add_argument("--format", choices=("udf", "iso", "bridge", "wiped"), default="udf")
    given = parser.parse_args()
    ovf = make_ovf(
        given.user,
        given.password,
        given.host_name,
        given.key,
        None if given.custom_data is None else given.custom_data.read_bytes(),
        disable_password=given.disable_password,
        provision_guest_agent=str(not given.no_guest_agent).lower(),
    )
    given.out.write_bytes(make_medium(ovf, given.format))


if __name__ == "__main__":
    main()
