# SPDX-License-Identifier: Apache-2.0
"""What the provisioning worker proposes for keys that an OVF names by certificate, and what it refuses."""

import pytest
from msgspec.structs import replace

from ipc.errors import InputError
from ipc.messages import CertificateKey, KeyPair, Ovf, PlaceKeyPair, PlaceKeys, PlanProvisioning, PublicKey
from tests.unit.provisioning.samples import ED25519, KEY, KEY_PATH, NOBODY, OPTIONS, OVF
from workers.provisioning.password_hash import hash_password
from workers.provisioning.plan import plan

THUMBPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
CERTIFICATE = CertificateKey(THUMBPRINT, "ssh-rsa AAAAB3Nza", has_private_key=True)
COLONS = ":".join(THUMBPRINT[number : number + 2] for number in range(0, 40, 2)).lower()
PAIR = KeyPair("$HOME/azureuser/.ssh/id_rsa", THUMBPRINT)


def named(fingerprint: str) -> Ovf:
    return replace(OVF, public_keys=(PublicKey(KEY_PATH, fingerprint, " "),))


def with_certificates(ovf: Ovf, *certificates: CertificateKey) -> PlanProvisioning:
    return PlanProvisioning(ovf, OPTIONS, NOBODY, certificates)


def test_keys_named_by_certificate_are_planned_and_found_right() -> None:
    more = PublicKey(KEY_PATH, COLONS, " ")
    pairs = (PAIR, KeyPair("/home/azureuser/.ssh/other", COLONS))
    request = with_certificates(replace(OVF, public_keys=(KEY, more), key_pairs=pairs), CERTIFICATE)
    placed = [each for each in plan(request, b"", hash_password) if isinstance(each, PlaceKeys | PlaceKeyPair)]
    home, line = "/home/azureuser", CERTIFICATE.public_key
    assert placed == [
        PlaceKeys("azureuser", home, ".ssh/authorized_keys", (ED25519, line)),
        PlaceKeyPair("azureuser", home, ".ssh/id_rsa", THUMBPRINT, line),
        PlaceKeyPair("azureuser", home, ".ssh/other", THUMBPRINT, line),
    ]


@pytest.mark.parametrize(
    ("ovf", "known", "words"),
    [
        (named("AB12"), (CERTIFICATE,), "PublicKey/Fingerprint: is no certificate's thumbprint"),
        (replace(OVF, key_pairs=(PAIR,)), (), f"KeyPair: names certificate {THUMBPRINT}, which the host has not sent"),
        (
            named(THUMBPRINT),
            (replace(CERTIFICATE, public_key=""),),
            f"PublicKey: names certificate {THUMBPRINT}, whose key is of a kind that ssh does not have",
        ),
        (replace(OVF, key_pairs=(KeyPair("/etc/x", THUMBPRINT),)), (CERTIFICATE,), "KeyPair/Path: /etc/x is not below"),
        (replace(OVF, key_pairs=(PAIR, PAIR)), (CERTIFICATE,), "KeyPair/Path: .* is asked for twice"),
        (
            replace(OVF, key_pairs=(PAIR, replace(PAIR, path=f"{PAIR.path}.pub"))),
            (CERTIFICATE,),
            "KeyPair/Path: .* is asked for twice",
        ),
        (
            replace(OVF, key_pairs=(PAIR,)),
            (replace(CERTIFICATE, has_private_key=False),),
            f"KeyPair: the host has sent certificate {THUMBPRINT} without a private key",
        ),
    ],
)
def test_keys_named_by_certificate_that_are_refused(ovf: Ovf, known: tuple[CertificateKey, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan(with_certificates(ovf, *known), b"", hash_password)
