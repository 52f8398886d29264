# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of a host key that cloud-init made, as ssh-keygen shows it; and what is none yet."""

import subprocess
from pathlib import Path

import pytest

from supervisor.cloud_init import fingerprint

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAsPJpgTIrM1F+r/IXNNu9K9032ffjmsq9Q6nyGHD6wA"


@pytest.mark.parametrize("options", [["rsa", "-b", "2048"], ["ecdsa"], ["ed25519"]], ids=lambda options: options[0])
def test_it_is_the_one_that_ssh_keygen_shows(tmp_path: Path, options: list[str]) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(key), "-t", *options], check=True)
    shown = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], check=True, capture_output=True, text=True).stdout
    line = (tmp_path / "key.pub").read_text()
    assert fingerprint(line) == shown.split()[1]
    # While it is being written there is no whole key in it.
    assert {fingerprint(line[:length]) for length in range(len(line))} == {""}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 %%%%",
        KEY.replace("ssh-ed25519 ", "ssh-rsa "),
        f"{KEY}AAAA",
        "\u2603 AAAAA",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
    ],
)
def test_what_is_no_key_has_none(line: str) -> None:
    assert fingerprint(f"{KEY}\n").startswith("SHA256:")
    assert fingerprint(f"{line}\n") == ""
