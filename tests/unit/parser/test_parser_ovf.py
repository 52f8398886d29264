# SPDX-License-Identifier: Apache-2.0
"""ovf-env.xml to `Ovf`, its custom data and the copy without the password (provisioning.md 5)."""

import base64
import re
from collections.abc import Callable

import pytest

from ipc.codec import decode, encode
from ipc.errors import InputError
from ipc.messages import KeyPair, PublicKey
from ipc.secret import Secret
from tests.fabric.media import make_ovf
from workers.parser import ovf, xml

PASSWORD = "Tr0ub4dor&<3>"
THUMBPRINT = "EB0C0AB4B2D5FC35F2F0658D19F44C8283E2DD62"

Vector = Callable[[str], bytes]


def with_password(element: str) -> bytes:
    return make_ovf(password="@").replace(b"<UserPassword>@</UserPassword>", element.encode())


def test_the_documents_of_others_are_read(vector: Vector) -> None:
    first = ovf.parse(vector("provisioning/ovf-env.xml"))
    assert first.ovf.version == "1.0"
    assert (first.ovf.host_name, first.ovf.user_name) == ("HostName", "UserName")
    assert first.ovf.password == Secret("UserPassword")
    assert not first.ovf.disable_ssh_password_authentication
    path = "$HOME/UserName/.ssh/authorized_keys"
    assert first.ovf.public_keys == (PublicKey(path, THUMBPRINT, "ssh-rsa AAAANOTAREALKEY== foo@bar.local"),)
    assert first.ovf.key_pairs == (KeyPair("$HOME/UserName/.ssh/id_rsa", THUMBPRINT),)
    assert not first.ovf.provision_guest_agent
    assert first.ovf.has_custom_data
    assert first.custom_data == b"CustomData"
    expected = vector("provisioning/ovf-env.xml").replace(b"UserPassword>UserPassword<", b"UserPassword>*<")
    assert first.redacted == expected
    assert ovf.parse(vector("provisioning/ovf-env-2.xml")).ovf.provision_guest_agent


def test_everything_that_azure_writes_arrives() -> None:
    custom = bytes(range(256)) * 256  # 64 KiB, the most that Azure takes
    parsed = ovf.parse(
        make_ovf(
            "user",
            PASSWORD,
            "host",
            keys=("ssh-ed25519 AAAA a", "ecdsa-sha2-nistp256 BBBB b"),
            custom_data=custom,
            fingerprints=(THUMBPRINT,),
            key_pairs=(("/home/user/.ssh/id", THUMBPRINT),),
            disable_password=True,
            provision_guest_agent="FALSE",
        )
    )
    assert parsed.ovf.password == Secret(PASSWORD)
    assert parsed.ovf.disable_ssh_password_authentication
    assert [key.value for key in parsed.ovf.public_keys] == ["ssh-ed25519 AAAA a", "ecdsa-sha2-nistp256 BBBB b", ""]
    assert parsed.ovf.public_keys[2].fingerprint == THUMBPRINT
    assert not parsed.ovf.provision_guest_agent
    assert base64.b64decode(parsed.custom_data) == custom
    assert decode(encode(parsed.ovf, 0)).message == parsed.ovf
    assert PASSWORD not in repr(parsed.ovf)


def test_what_is_optional_may_be_missing() -> None:
    parsed = ovf.parse(make_ovf())
    assert parsed.ovf.password is None
    assert not parsed.ovf.disable_ssh_password_authentication
    assert (parsed.ovf.public_keys, parsed.ovf.key_pairs, parsed.ovf.warnings) == ((), (), ())
    assert not parsed.ovf.has_custom_data
    assert parsed.custom_data == b""


@pytest.mark.parametrize(
    ("text", "provisioned"), [("true", True), ("bad data", True), ("fAlse", False), (" false\n", False), (" ", True)]
)
def test_only_false_turns_the_guest_agent_off(text: str, provisioned: bool) -> None:
    assert ovf.parse(make_ovf(provision_guest_agent=text)).ovf.provision_guest_agent is provisioned


@pytest.mark.parametrize(
    ("pattern", "where"),
    [
        (r"<wa:Version>1.0</wa:Version>\s*(?=<Linux)", "ProvisioningSection/Version"),
        (r"<HostName>.*</HostName>", "LinuxProvisioningConfigurationSet/HostName"),
        (r"<UserName>.*</UserName>", "LinuxProvisioningConfigurationSet/UserName"),
        (
            r"(?s)<LinuxProvisioningConfigurationSet.*</LinuxProvisioningConfigurationSet>",
            "LinuxProvisioningConfigurationSet",
        ),
        (r"(?s)<wa:ProvisioningSection>.*</wa:ProvisioningSection>", "ProvisioningSection"),
        (r"(?s)<wa:PlatformSettingsSection>.*</wa:PlatformSettingsSection>", "PlatformSettingsSection"),
        (r"(?s)<wa:PlatformSettings>.*</wa:PlatformSettings>", "PlatformSettings"),
        (r"<wa:ProvisionGuestAgent>.*</wa:ProvisionGuestAgent>", "PlatformSettings/ProvisionGuestAgent"),
    ],
)
def test_a_required_element_is_named_when_it_is_missing(pattern: str, where: str) -> None:
    document = make_ovf(password=PASSWORD).decode()
    without = re.sub(pattern, "", document)
    with pytest.raises(InputError, match="missing") as refused:
        ovf.parse(without.encode())
    assert refused.value.where == where


def test_an_empty_required_element_is_a_missing_one() -> None:
    for document in (make_ovf(host_name=""), make_ovf(user=" "), make_ovf(provision_guest_agent="")):
        with pytest.raises(InputError, match="is missing or empty"):
            ovf.parse(document)


def test_names_count_only_in_their_namespace() -> None:
    other = make_ovf().replace(b"http://schemas.microsoft.com/windowsazure", b"urn:other")
    with pytest.raises(InputError, match="ProvisioningSection: is missing"):
        ovf.parse(other)
    with pytest.raises(InputError, match="Environment: is not the document's root"):
        ovf.parse(make_ovf().replace(b"dmtf.org/ovf/environment/1", b"dmtf.org/ovf/environment/2"))
    prefixed = make_ovf("u", "p").replace(b"<HostName>vm1</HostName>", b"<wa:HostName>vm2</wa:HostName>")
    assert ovf.parse(prefixed).ovf.host_name == "vm2"


def test_a_newer_version_is_read_with_a_warning() -> None:
    assert ovf.parse(make_ovf(version="1.1")).ovf.warnings == ("ovf-env.xml has version '1.1', newer than 1.0",)
    assert ovf.parse(make_ovf(version="0.9")).ovf.warnings == ()


@pytest.mark.parametrize(
    "element",
    [
        f"<UserPassword>{PASSWORD.replace('&', '&amp;').replace('<', '&lt;')}</UserPassword>",
        "<UserPassword>Tr0ub4dor\nTr0ub4dor</UserPassword>",
        "<UserPassword a='>' b=\"&gt;\">Tr0ub4dor</UserPassword >",
        "<UserPassword>Tr0ub4dor<!-- Tr0ub4dor --><![CDATA[Tr0ub4dor</UserPassword>]]>Tr0ub4dor</UserPassword>",
        "<wa:UserPassword>Tr0ub4dor<b>Tr0ub4dor</b></wa:UserPassword>",
        "<UserPassword>Tr0ub4dor<UserPassword>Tr0ub4dor</UserPassword>Tr0ub4dor</UserPassword>",
        "<UserPassword/><UserPassword xmlns='urn:other'>Tr0ub4dor</UserPassword>",
    ],
)
def test_the_copy_holds_no_password_and_nothing_else_is_changed(element: str) -> None:
    parsed = ovf.parse(with_password(element))
    assert b"Tr0ub4dor" not in parsed.redacted
    again = ovf.parse(parsed.redacted)
    assert again.ovf.host_name == parsed.ovf.host_name
    assert parsed.redacted.partition(b"<HostName>")[2].partition(b"<")[0] == b"vm1"
    assert re.sub(rb"(<[^<]*UserPassword[^>]*>\*?)+", b"", parsed.redacted).count(b"<") == make_ovf().count(b"<")


def test_the_password_is_taken_to_the_letter_and_everything_else_is_trimmed() -> None:
    document = with_password("<UserPassword> p w </UserPassword>").replace(b">vm1<", b">\n vm1 <")
    parsed = ovf.parse(document)
    assert parsed.ovf.password == Secret(" p w ")
    assert parsed.ovf.host_name == "vm1"


def test_a_utf16_document_gives_a_utf8_copy() -> None:
    text = make_ovf(password=PASSWORD, host_name="hôte").decode().replace('encoding="utf-8"', 'encoding="utf-16"')
    parsed = ovf.parse(text.encode("utf-16"))
    assert parsed.ovf.host_name == "hôte"
    assert parsed.redacted.startswith(b'<?xml version="1.0" encoding="utf-8"?>')
    assert xml.parse(parsed.redacted, namespaces=True).text_of(f"{ovf.WA_NAMESPACE} UserPassword") == "*"


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (make_ovf(host_name="h" * 1025), "HostName"),
        (make_ovf(password="Tr0ub4dor" * 200), "UserPassword"),
        (make_ovf(keys=["k" * 16385]), "Value"),
        (make_ovf(keys=["k" * 16384] * 9), "SSH"),
        (make_ovf(keys=["k"] * 257), "SSH"),
        (make_ovf(keys=["k"], key_path=" "), "SSH/PublicKeys/PublicKey 1/Path"),
        (make_ovf(keys=["k", ""]), "SSH/PublicKeys/PublicKey 2"),
        (make_ovf(key_pairs=[("/p", "")]), "SSH/KeyPairs/KeyPair 1/Fingerprint"),
    ],
)
def test_what_is_too_long_or_useless_is_refused_by_name(document: bytes, where: str) -> None:
    with pytest.raises(InputError) as refused:
        ovf.parse(document)
    assert refused.value.where == where
    assert "Tr0ub4dor" not in str(refused.value)


def test_the_most_that_is_accepted_fits_into_a_frame() -> None:
    parsed = ovf.parse(make_ovf("ü" * 1024, "ü" * 1024, "ü" * 1024, keys=["k" * 16000] * 8, key_path="/p"))
    assert decode(encode(parsed.ovf, 0, 2)).message == parsed.ovf


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_its_mark_is_refused_since_no_copy_of_it_would_be_without_the_password(encoding: str) -> None:
    with pytest.raises(InputError, match="is NUL, which no XML has"):
        ovf.parse(make_ovf(password=PASSWORD).decode().encode(encoding))


def test_no_copy_is_made_when_the_element_is_not_where_it_was_read() -> None:
    source = make_ovf(password=PASSWORD)
    with pytest.raises(InputError, match="no copy without its content can be made"):
        ovf.redact(source, xml.Element("UserPassword", {}, source.index(b"UserPassword")))
