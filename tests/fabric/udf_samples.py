# SPDX-License-Identifier: Apache-2.0
"""What goes into the images of tests/data/udf: the documents, and the volumes that only our own writer makes.

As a command, for make_udf_images.sh: `python -m tests.fabric.udf_samples payload|ours FOLDER`.
"""

import sys
from dataclasses import replace
from pathlib import Path

from tests.fabric.media import make_ovf
from tests.fabric.udf_writer import UdfForm, make_udf

OVF = make_ovf(password="Tr0ub4dor&3", keys=["ssh-ed25519 AAAAC3 someone"], custom_data=b"#!/bin/sh\ntrue\n")
LARGE = make_ovf(custom_data=b"".join(b"line %5d of a long script\n" % number for number in range(1500)))
SHORT = OVF[:150]  # fits into a file entry of 512 bytes

FORMS = {
    "ours-1.50-virtual": UdfForm(revision=0x150, partition="virtual", allocation="long"),
    "ours-2.00-virtual": UdfForm(revision=0x200, partition="virtual", allocation="long"),
    "ours-2.50-metadata": UdfForm(revision=0x250, partition="metadata", extended_entry=True, fragments=3),
    "ours-2.60-metadata": UdfForm(revision=0x260, partition="metadata", extended_entry=True, allocation="long"),
    "ours-2.01-sparable": UdfForm(revision=0x201, partition="sparable", fragments=2, continued=True),
}
OURS = {
    f"{name}-{block}": replace(form, block_bytes=block) for name, form in FORMS.items() for block in (512, 2048, 4096)
}


def main() -> None:
    """Write the files that the recipe asks for."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if what == "payload":
        (folder / "ovf-env.xml").write_bytes(OVF)
        (folder / "large.xml").write_bytes(LARGE)
        (folder / "short.xml").write_bytes(SHORT)
        return
    for name, form in OURS.items():
        (folder / name).write_bytes(make_udf(OVF, form))


if __name__ == "__main__":
    main()
