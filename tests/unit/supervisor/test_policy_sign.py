# SPDX-License-Identifier: Apache-2.0
"""`policy sign` and `policy verify` on an image maker's folder: offline, in clear words, with an exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

OVERRIDE = '[parser]\nwhy = "Our machines are smaller than most."\nlimits.memory_mib = 100\n'


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """policy.d with one override, and a key pair beside it."""
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d/10-small.toml").write_text(OVERRIDE)
    return tmp_path


def policy(image: Path, *words: str) -> tuple[int, str]:
    """Exit status and all that is said of `policy WORDS --folder policy.d`, carried out beside the folder."""
    command = [sys.executable, "-m", "supervisor", "policy", *words, "--folder", "policy.d"]
    project = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        command, cwd=image, env={"PYTHONPATH": str(project)}, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_signed_and_verified_until_something_changes(image: Path) -> None:
    status, told = policy(image, "sign", "--key", "key.pem")
    assert status == 0, told
    assert "  10-small.toml\n" in told
    assert "agent_supervisor.policy_key=" in told
    assert (image / "policy.d/policy.sig").stat().st_mode & 0o777 == 0o644
    assert policy(image, "verify", "--key", "key.pub")[0] == 0
    (image / "policy.d/10-small.toml").write_text(OVERRIDE + "\n")
    status, told = policy(image, "verify", "--key", "key.pub")
    assert status == 1
    assert "does not fit 10-small.toml and the shipped policy of this version" in told


def test_as_json(image: Path) -> None:
    status, told = policy(image, "verify", "--key", "key.pub", "--json")
    shown = json.loads(told)
    assert (status, shown["signer"], shown["files"]) == (1, "", ["10-small.toml"])
    assert "a signature is required" in shown["problem"]


def test_unsigned_where_nobody_asks_is_not_called_signed(image: Path) -> None:
    status, told = policy(image, "verify")
    assert status == 1
    assert "10-small.toml: not signed" in told
    assert "an agent would start" in told


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("sign", "--key", "absent.pem"), "absent.pem: No such file"),
        (("sign", "--key", "key.pub"), "key.pub is no PEM file with a private key"),
        (("sign",), "--key"),
    ],
)
def test_a_key_that_can_not_be_used_is_named(image: Path, words: tuple[str, ...], named: str) -> None:
    status, told = policy(image, *words)
    assert status == 2
    assert named in told
    assert not (image / "policy.d/policy.sig").exists()


def test_what_no_agent_would_take_is_not_signed(image: Path) -> None:
    (image / "policy.d/20-typo.toml").write_text("[parser]\nwhy = 'Mistyped, as happens.'\nlimts.pids = 3\n")
    status, told = policy(image, "sign", "--key", "key.pem")
    assert status == 2
    assert "policy.d/20-typo.toml: [parser] limts: there is no such key" in told
    assert not (image / "policy.d/policy.sig").exists()
