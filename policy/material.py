# SPDX-License-Identifier: Apache-2.0
"""Owns what the spawner gathers for the sealed compiler of overrides: bytes as they were found, judged by nobody yet.

Data only; crosses from the spawner to that compiler in one sealed file, and is made by the command line as well.
"""

import msgspec

MAX_MATERIAL_BYTES = 8 << 20
# The words on the kernel's command line that have to do with a policy begin so.
WORD = b"agent_supervisor.policy_"


class Anchors(msgspec.Struct, frozen=True):
    """What one place says about signatures: public keys (file name -> PEM), and whether a signature is required."""

    keys: dict[str, bytes] = {}
    required: bool = False


class Material(msgspec.Struct, frozen=True):
    """`shipped` and `overrides` are TOML sources by name; `signature` and `config` (/etc/waagent.conf) may be empty.

    `fixed` are the anchors in /usr, `local` those in /etc, `command_line` the kernel's."""

    shipped: dict[str, bytes]
    overrides: dict[str, bytes] = {}
    signature: bytes = b""
    config: bytes = b""
    config_path: str = ""
    fixed: Anchors = Anchors()
    local: Anchors = Anchors()
    command_line: bytes = b""
