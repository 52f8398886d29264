# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor policy sign` and `policy verify`: the image maker's signature of a set of overrides.

Both work on files alone, offline, with an agent or without. The private key is read for one signature and written
nowhere.
"""

import argparse
import json
import os
from pathlib import Path

import msgspec

from ipc.errors import ConfigError
from policy.load import own_folder
from policy.material import Anchors, Material
from supervisor import policy_files
from supervisor.cli.actions import Actions
from supervisor.cli.policy import EXIT_FOUND, EXIT_WELL, carried_out
from supervisor.layout import Layout

SIGN = "sign the overrides of a folder: its policy.sig is made, or made anew"
VERIFY = "tell whether the overrides are signed as they must be, and whether a start would take them"
SIGN_EPILOG = """\
The signature is over the name and content of every *.toml file in the folder, and over the policy that is shipped
with this version of the agent: after an update of either, sign again. An empty folder can be signed, too.
"""
VERIFY_EPILOG = """\
exit status: 0 signed, and it fits; 1 not signed, or not as it must be, or a start would refuse the overrides;
2 a file can't be used, or wrong usage; 4 no permission to read one
"""

# The folder of a machine; any other one is an image in the making.
OVERRIDES = policy_files.Places().overrides


def configure_sign(actions: Actions) -> None:
    """Arguments of `policy sign`."""
    parser = _added(actions, "sign", SIGN, SIGN_EPILOG)
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="PEM of an Ed25519 private key")
    parser.set_defaults(carry_out=carried_out(sign))


def configure_verify(actions: Actions) -> None:
    """Arguments of `policy verify`."""
    parser = _added(actions, "verify", VERIFY, VERIFY_EPILOG)
    parser.add_argument(
        "--key",
        metavar="FILE",
        type=Path,
        help="PEM of the one public key that counts (default: those of this machine)",
    )
    parser.add_argument("--config", metavar="FILE", default=Layout().config, help="settings (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(carry_out=carried_out(verify))


def sign(options: argparse.Namespace) -> int:
    """Write the signature file; says with which key, and how a kernel command line names that key."""
    from base64 import b64encode

    from policy import signature
    from policy.sources import digest

    material = _gathered(options)
    _refuse_nonsense(material)
    shipped = digest(material.shipped)
    try:
        content, public = signature.sign(options.key.read_bytes(), material.overrides, shipped)
    except ValueError as error:
        raise ValueError(f"{options.key} {error}") from None
    _write(options.folder / policy_files.SIGNATURE, content)
    print(f"signed with the key {signature.fingerprint(public)}, for the shipped policy {shipped[:16]}:")
    print("\n".join(f"  {name}" for name in sorted(material.overrides)) or "  no files")
    print(f"on a kernel command line this key is agent_supervisor.policy_key={b64encode(public).decode()}")
    return EXIT_WELL


def verify(options: argparse.Namespace) -> int:
    """Say what a start on this machine would make of the overrides."""
    from policy.sources import digest
    from policy.trust import decide, signed_by
    from supervisor.compiler.ruling import rule

    material = _gathered(options)
    if options.key is not None:
        key = {options.key.name: options.key.read_bytes()}
        material = msgspec.structs.replace(
            material, fixed=Anchors(key, required=True), local=Anchors(), command_line=b""
        )
    told: dict[str, object] = {"files": sorted(material.overrides), "signer": "", "required_by": "", "problem": ""}
    try:
        trust = decide(material)
        told["required_by"] = trust.required_by
        told["signer"] = signed_by(material, trust, digest(material.shipped))
        policy = rule(material)
        if options.folder == Path(OVERRIDES):
            policy_files.refuse_links(policy)
    except ConfigError as error:
        told["problem"] = str(error)
    print(json.dumps(told) if options.json else _sentence(told))
    return EXIT_WELL if told["signer"] and not told["problem"] else EXIT_FOUND


def _sentence(told: dict[str, object]) -> str:
    files = ", ".join(told["files"]) if isinstance(told["files"], list) and told["files"] else "no override"
    if told["problem"]:
        return f"refused, an agent would not start: {told['problem']}"
    if told["signer"]:
        return f"{files}: signed with the key {told['signer']}"
    return f"{files}: not signed, or no key to check it with; nobody requires it here, so an agent would start"


def _added(actions: Actions, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, default=Path(OVERRIDES), help="the overrides (default: %(default)s)"
    )
    parser.add_argument(
        "--shipped", metavar="DIR", type=Path, default=Path(own_folder()), help="the policy that was installed"
    )
    return parser


def _gathered(options: argparse.Namespace) -> Material:
    folder = options.folder.absolute()
    # Where an image is made, files belong to whoever makes it.
    places = policy_files.Places(overrides=str(folder), strict=folder == Path(OVERRIDES))
    config = getattr(options, "config", "")
    return policy_files.gathered(places, str(options.shipped), config, policy_files.config_bytes(config))


def _refuse_nonsense(material: Material) -> None:
    """ConfigError for overrides that no agent would take, whatever its settings: nobody means to sign those."""
    from policy.lint import lint
    from policy.override import merge
    from policy.reading import read_policy

    profiles, groups = read_policy(material.shipped)
    problems = lint(merge(profiles, groups, material.overrides).profiles, groups)
    if problems:
        raise ConfigError("policy.d", "; ".join(problems))


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.chmod(0o644)
    os.replace(temporary, path)
