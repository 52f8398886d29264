# SPDX-License-Identifier: Apache-2.0
"""Signatures of overrides: what is signed is all that counts, by keys that /etc can't choose for itself."""

import base64
from itertools import product

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import ConfigError
from policy.material import Anchors, Material
from policy.signature import fingerprint, sign, signed_bytes, signer
from policy.trust import decide, signed_by

SHIPPED = "5" * 64
FILES = {"10-a.toml": b"min_level = 'full'\n", "20-b.toml": b""}
REQUIRED = b"agent_supervisor.policy_signature=required"


class Key:
    """A key pair in the forms that it is handed about in."""

    def __init__(self) -> None:
        key = Ed25519PrivateKey.generate()
        self.private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.raw = key.public_key().public_bytes_raw()
        self.word = b"agent_supervisor.policy_key=" + base64.b64encode(self.raw)


IMAGE, KERNEL, LOCAL = Key(), Key(), Key()
SIGNATURE = sign(IMAGE.private, FILES, SHIPPED)[0]


def test_a_signature_fits_its_files_key_and_version() -> None:
    assert signer(SIGNATURE, [LOCAL.raw, IMAGE.raw], FILES, SHIPPED) == IMAGE.raw
    assert signer(sign(IMAGE.private, {}, SHIPPED)[0], [IMAGE.raw], {}, SHIPPED) == IMAGE.raw


CHANGED = {
    "a byte of a file": (FILES | {"10-a.toml": b"min_level = 'fu1l'\n"}, SHIPPED),
    "a file more": (FILES | {"30-c.toml": b""}, SHIPPED),
    "a file less": ({"10-a.toml": FILES["10-a.toml"]}, SHIPPED),
    "another name": ({"11-a.toml": FILES["10-a.toml"], "20-b.toml": b""}, SHIPPED),
    "contents exchanged": ({"10-a.toml": b"", "20-b.toml": FILES["10-a.toml"]}, SHIPPED),
    "another version": (FILES, "6" * 64),
}


@pytest.mark.parametrize("case", CHANGED)
def test_it_fits_nothing_else(case: str) -> None:
    files, shipped = CHANGED[case]
    with pytest.raises(ConfigError, match="does not fit"):
        signer(SIGNATURE, [IMAGE.raw], files, shipped)


def test_it_fits_no_other_key() -> None:
    with pytest.raises(ConfigError, match=fingerprint(LOCAL.raw)):
        signer(SIGNATURE, [LOCAL.raw], FILES, SHIPPED)


@given(st.integers(0, len(SIGNATURE) - 2), st.integers(1, 255))
def test_a_signature_with_one_byte_changed_is_refused(place: int, change: int) -> None:
    altered = bytearray(SIGNATURE)
    altered[place] ^= change
    with pytest.raises(ConfigError):
        signer(bytes(altered), [IMAGE.raw], FILES, SHIPPED)


def test_names_and_contents_can_not_be_shifted_against_each_other() -> None:
    assert signed_bytes({"a": b"b\0c"}, SHIPPED) != signed_bytes({"a": b"b", "c": b""}, SHIPPED)


def test_only_an_ed25519_key_without_a_pass_phrase_signs() -> None:
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="not an Ed25519 key"):
        sign(rsa, FILES, SHIPPED)
    with pytest.raises(ValueError, match="private key that has no pass phrase"):
        sign(IMAGE.pem, FILES, SHIPPED)


def material(*places: bool) -> Material:
    """A key in /usr, on the command line, in /etc; a requirement in the same three."""
    usr, kernel, etc, usr_requires, kernel_requires, etc_requires = places
    words = [b"quiet", *([KERNEL.word] if kernel else []), *([REQUIRED] if kernel_requires else []), b"root=/dev/sda1"]
    return Material(
        {},
        FILES,
        b"",
        fixed=Anchors({"image.pem": IMAGE.pem} if usr else {}, usr_requires),
        local=Anchors({"local.pem": LOCAL.pem} if etc else {}, etc_requires),
        command_line=b" ".join(words) + b"\n",
    )


def test_what_etc_says_never_takes_away_and_never_lends_a_key_to_the_image() -> None:
    for usr, kernel, etc, usr_requires, kernel_requires, etc_requires in product((False, True), repeat=6):
        trust = decide(material(usr, kernel, etc, usr_requires, kernel_requires, etc_requires))
        above = [key.raw for key, there in ((IMAGE, usr), (KERNEL, kernel)) if there]
        alone = not (above or usr_requires or kernel_requires)
        assert list(trust.keys) == (above or ([LOCAL.raw] if etc and alone else []))
        assert bool(trust.required_by) == (usr_requires or kernel_requires or etc_requires)


@pytest.mark.parametrize(
    ("signature", "keys", "required", "outcome"),
    [
        (b"", False, False, ""),
        (b"", True, False, ""),
        (b"", True, True, "a signature is required by policy-signature-required in /usr"),
        (b"", False, True, "there is no key"),
        (SIGNATURE, False, True, "there is no key"),
        (SIGNATURE, True, True, fingerprint(IMAGE.raw)),
        (SIGNATURE, True, False, fingerprint(IMAGE.raw)),
        (SIGNATURE, False, False, ""),
        (SIGNATURE[:-10], True, False, "is no signature"),
    ],
    # The keys are made anew in every process, and a test has the same name in all of them.
    ids=lambda value: "its-signer" if str(value).startswith("sha256:") else None,
)
def test_a_signature_is_asked_for_where_it_is_required_and_checked_where_there_is_one(
    signature: bytes, keys: bool, required: bool, outcome: str
) -> None:
    anchors = Anchors({"image.pem": IMAGE.pem} if keys else {}, required)
    given_material = Material({}, FILES, signature, fixed=anchors)
    if outcome.startswith("sha256:") or not outcome:
        assert signed_by(given_material, decide(given_material), SHIPPED) == outcome
        return
    with pytest.raises(ConfigError, match=outcome):
        signed_by(given_material, decide(given_material), SHIPPED)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"agent_supervisor.policy_signature=optional", "is not agent_supervisor.policy_key=BASE64"),
        (b"agent_supervisor.policy_signature", "is not agent_supervisor.policy_key=BASE64"),
        (b"agent_supervisor.policy_sgnature=required", "is not agent_supervisor.policy_key=BASE64"),
        (b"agent_supervisor.policy_key=AAAA", "32 bytes"),
        (b"agent_supervisor.policy_key=" + b"*" * 44, "32 bytes"),
    ],
)
def test_a_word_that_can_not_be_used_stops_the_start(line: bytes, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        decide(Material({}, command_line=b"quiet " + line))


def test_a_key_file_that_can_not_be_used_stops_the_start() -> None:
    for pem in (b"", b"key", IMAGE.private):
        with pytest.raises(ConfigError, match=r"policy-keys/bad\.pem in /usr"):
            decide(Material({}, fixed=Anchors({"bad.pem": pem})))
