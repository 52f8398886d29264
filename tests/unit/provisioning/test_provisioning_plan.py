# SPDX-License-Identifier: Apache-2.0
"""What the provisioning worker proposes, and every input that it refuses, each by the OVF element's name."""

import base64
import re
import subprocess

import pytest
from msgspec.structs import replace

from ipc.descriptors import read_sealed, sealed_memfd
from ipc.errors import BadDescriptor, InputError
from ipc.messages import (
    ConfigureSshd,
    CreateAccount,
    GrantSudo,
    HashPassword,
    KeyPair,
    LockRootPassword,
    Ovf,
    PasswordHashed,
    PlaceKeys,
    PlanComplete,
    PlanProvisioning,
    ProvisioningOptions,
    PublicKey,
    SetHostName,
    SetPassword,
    StoreCustomData,
)
from ipc.secret import Secret
from tests.unit.provisioning.samples import CORE, ED25519, KEY, KEY_PATH, NOBODY, OPTIONS, OVF, PASSWORD
from workers.provisioning import grammar
from workers.provisioning.main import on_hash_password, on_plan_provisioning
from workers.provisioning.password_hash import hash_password
from workers.provisioning.plan import plan


def refusal(ovf: Ovf) -> str:
    with pytest.raises(InputError) as failure:
        plan(PlanProvisioning(ovf, OPTIONS, NOBODY), b"", hash_password)
    return failure.value.where


def with_key(value: str, path: str = KEY_PATH) -> Ovf:
    return replace(OVF, public_keys=(PublicKey(path, "AB12", value),))


def test_a_key_and_no_password() -> None:
    assert plan(PlanProvisioning(OVF, OPTIONS, NOBODY), b"", hash_password) == (
        SetHostName("vm1"),
        CreateAccount("azureuser", "/home/azureuser"),
        GrantSudo("azureuser", without_password=True),
        ConfigureSshd(password_authentication=False, client_alive_interval_s=180),
        PlaceKeys("azureuser", "/home/azureuser", ".ssh/authorized_keys", (ED25519,)),
        LockRootPassword(),
    )


def test_a_password_makes_a_hash_and_a_sudo_rule_that_asks_for_it() -> None:
    ovf = replace(OVF, password=PASSWORD, public_keys=(), disable_ssh_password_authentication=False)
    proposals = plan(PlanProvisioning(ovf, replace(OPTIONS, delete_root_password=False), NOBODY), b"", hash_password)
    assert [type(each) for each in proposals] == [SetHostName, CreateAccount, SetPassword, GrantSudo, ConfigureSshd]
    assert GrantSudo("azureuser", without_password=False) in proposals
    assert ConfigureSshd(True, 180) in proposals
    assert PASSWORD.reveal() not in repr(proposals)


def test_an_empty_password_is_none() -> None:
    proposals = plan(PlanProvisioning(replace(OVF, password=Secret("")), OPTIONS, NOBODY), b"", hash_password)
    assert GrantSudo("azureuser", without_password=True) in proposals
    assert SetPassword not in map(type, proposals)


def test_an_existing_account_is_not_made_and_keeps_its_home() -> None:
    ovf = replace(OVF, user_name="core", public_keys=(replace(KEY, path="/home/core/.ssh/authorized_keys"),))
    proposals = plan(PlanProvisioning(ovf, OPTIONS, CORE), b"", hash_password)
    assert CreateAccount not in map(type, proposals)
    assert PlaceKeys("core", "/var/home/core", ".ssh/authorized_keys", (ED25519,)) in proposals


def test_the_account_of_a_daemon_is_no_account_to_provision() -> None:
    ovf = replace(OVF, user_name="core", public_keys=(), password=None)
    with pytest.raises(InputError, match="account of a daemon"):
        plan(
            PlanProvisioning(ovf, replace(OPTIONS, allow_reset_sys_user=True), replace(CORE, for_a_person=False)),
            b"",
            hash_password,
        )


def test_a_system_account_gets_a_password_only_if_so_configured() -> None:
    ovf = replace(OVF, user_name="core", public_keys=(), password=PASSWORD)
    with pytest.raises(InputError, match="AllowResetSysUser"):
        plan(PlanProvisioning(ovf, OPTIONS, CORE), b"", hash_password)
    assert SetPassword in map(
        type, plan(PlanProvisioning(ovf, replace(OPTIONS, allow_reset_sys_user=True), CORE), b"", hash_password)
    )
    with pytest.raises(InputError, match="another name of root"):
        plan(PlanProvisioning(ovf, OPTIONS, replace(CORE, uid=0)), b"", hash_password)


def test_keys_of_one_file_come_together_and_once() -> None:
    other = replace(KEY, path="$HOME/azureuser/.ssh/../.ssh/authorized_keys", value="ecdsa-sha2-nistp256 AAAA")
    third = replace(KEY, path="/home/azureuser/.config/keys")
    proposals = plan(
        PlanProvisioning(replace(OVF, public_keys=(KEY, other, KEY, third)), OPTIONS, NOBODY), b"", hash_password
    )
    assert [each for each in proposals if isinstance(each, PlaceKeys)] == [
        PlaceKeys("azureuser", "/home/azureuser", ".ssh/authorized_keys", (ED25519, "ecdsa-sha2-nistp256 AAAA")),
        PlaceKeys("azureuser", "/home/azureuser", ".config/keys", (ED25519,)),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "root",
        "-r",
        "a b",
        "a\nb",
        "a/b",
        "a:b",
        "üser",
        "\u0430dmin",
        "x" * 33,
        "1user",
        "ALL",
        "Defaults",
        "%sudo",
        "a$",
        "..",
    ],
)
def test_user_names_that_are_refused(name: str) -> None:
    assert refusal(replace(OVF, user_name=name)) == "UserName"


NOT_A_NAME = "UserName: is not 1 to 32 of A-Z a-z 0-9 _ . - beginning with a letter or _"
NOT_LABELS = "HostName: is not made of labels of 1 to 63 letters, digits and inner hyphens"
NO_TYPE = "PublicKey/Value: does not begin with a key type that OpenSSH knows"
NOT_A_LINE = "PublicKey/Value: is not one line of printable text"


@pytest.mark.parametrize(
    ("ovf", "words"),
    [
        (replace(OVF, user_name="root"), "UserName: root is not provisioned"),
        (replace(OVF, user_name=""), NOT_A_NAME),
        (replace(OVF, user_name="x" * 300), NOT_A_NAME),
        (replace(OVF, user_name="a\nb"), NOT_A_NAME),
        (replace(OVF, user_name="a/b"), NOT_A_NAME),
        (replace(OVF, user_name="-r"), NOT_A_NAME),
        (replace(OVF, user_name="üser"), NOT_A_NAME),
        (replace(OVF, user_name="ALL"), "UserName: ALL has a meaning of its own in sudoers"),
        (replace(OVF, host_name="x" * 65), "HostName: is longer than 64 characters"),
        (replace(OVF, host_name="my vm"), NOT_LABELS),
        (replace(OVF, host_name="vm."), NOT_LABELS),
        (with_key(f"{ED25519}\n{ED25519}"), NOT_A_LINE),
        (with_key(f'command="id" {ED25519}'), NO_TYPE),
        (with_key("ssh-rsa"), "PublicKey/Value: has no base64 text after ssh-rsa"),
        (with_key("ssh-rsa " + "A" * 16384), "PublicKey/Value: is longer than 16384 characters"),
        (
            with_key("ssh-rsa-cert-v01@openssh.com AAAA"),
            "PublicKey/Value: is a certificate: a host trusts its authority, not the certificate itself",
        ),
        (with_key(ED25519, ""), "PublicKey/Path: is empty"),
        (
            with_key(ED25519, "/root/.ssh/authorized_keys"),
            "PublicKey/Path: /root/.ssh/authorized_keys is not below /home/azureuser",
        ),
        (with_key(ED25519, "/home/azureuser/\n"), "PublicKey/Path: is not 512 printable characters at most"),
        (with_key(" "), "PublicKey/Fingerprint: is no certificate's thumbprint: 40 hexadecimal digits"),
        (
            replace(OVF, key_pairs=(KeyPair("/home/azureuser/.ssh/id", "AB"),)),
            "KeyPair/Fingerprint: is no certificate's thumbprint: 40 hexadecimal digits",
        ),
    ],
)
def test_each_refusal_names_the_element_and_what_was_expected(ovf: Ovf, words: str) -> None:
    with pytest.raises(InputError) as failure:
        plan(PlanProvisioning(ovf, OPTIONS, NOBODY), b"", hash_password)
    assert str(failure.value) == words


def test_what_an_account_is_not_fit_for_names_element_and_option() -> None:
    ovf = replace(OVF, user_name="core", public_keys=(), password=PASSWORD)
    with pytest.raises(InputError) as failure:
        plan(PlanProvisioning(ovf, OPTIONS, CORE), b"", hash_password)
    option = "Provisioning.AllowResetSysUser=y"
    assert str(failure.value) == f"UserPassword: is for a system account, uid 500 below 1000; that takes {option}"
    with pytest.raises(InputError, match="UserName: is the account of a daemon, uid 65534, that nobody logs in to"):
        plan(PlanProvisioning(ovf, OPTIONS, replace(CORE, uid=65534, for_a_person=False)), b"", hash_password)


@pytest.mark.parametrize("uid", [1000, 60000, 70000, 200000])
def test_every_uid_from_the_first_on_may_be_a_persons(uid: int) -> None:
    ovf = replace(OVF, user_name="core", public_keys=(), password=PASSWORD)
    assert SetPassword in map(type, plan(PlanProvisioning(ovf, OPTIONS, replace(CORE, uid=uid)), b"", hash_password))


@pytest.mark.parametrize("home", ["", "/", "//", "/.", "home/core"])
def test_keys_have_no_place_without_a_home(home: str) -> None:
    ovf = replace(OVF, user_name="core", public_keys=(replace(KEY, path="$HOME/core/.ssh/authorized_keys"),))
    with pytest.raises(InputError, match=f"PublicKey: has no home of core to go to: passwd names {home or 'none'}"):
        plan(PlanProvisioning(ovf, OPTIONS, replace(CORE, home=home)), b"", hash_password)


def test_the_key_types_are_those_of_this_openssh() -> None:
    known = subprocess.run(["ssh", "-Q", "key-plain"], check=True, capture_output=True, text=True).stdout.split()
    assert set(known) <= grammar.KEY_TYPES


@pytest.mark.parametrize("name", ["a", "_svc", "UserName", "first.last", "x" * 32, "user-1"])
def test_user_names_that_are_taken(name: str) -> None:
    assert grammar.user_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a b", "a..b", ".a", "a.", "a_b", "vm;x", "x" * 64, "ä", "a\n", ".".join(["x" * 32] * 2)]
)
def test_host_names_that_are_refused(name: str) -> None:
    assert refusal(replace(OVF, host_name=name)) == "HostName"


@pytest.mark.parametrize("name", ["a", "VM-1", "vm.internal.example", "x" * 63, "0"])
def test_host_names_that_are_taken(name: str) -> None:
    assert grammar.host_name(name) == name


@pytest.mark.parametrize(
    "value",
    [
        'command="/bin/sh" ssh-rsa AAAA',
        'environment="LD_PRELOAD=x" ssh-rsa AAAA',
        "ssh-rsa AAAA a\nssh-rsa BBBB",
        "ssh-rsa AAAA a\rx",
        "ssh-rsa",
        "ssh-rsa not*base64",
        "ssh-rsa  AAAA",
        "rsa-sha2-512 AAAA",
        "ssh-ed25519-cert-v01@openssh.com AAAA",
        "@cert-authority ssh-rsa AAAA",
        "-----BEGIN PUBLIC KEY-----",
        "ssh-rsa AAAA \u2028x",
        "ssh-rsa " + "A" * 16384,
    ],
)
def test_key_values_that_are_refused(value: str) -> None:
    assert refusal(with_key(value)) == "PublicKey/Value"


@pytest.mark.parametrize("kind", sorted(grammar.KEY_TYPES))
def test_every_key_type_is_taken(kind: str) -> None:
    assert grammar.public_key(f" {kind} AAAA== a comment, with ünicode\r\n") == f"{kind} AAAA== a comment, with ünicode"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/home/azureuser",
        "/home/azureuser/../root/.ssh/authorized_keys",
        "/home/azureuserx/.ssh/authorized_keys",
        "/etc/ssh/keys",
        ".ssh/authorized_keys",
        "$HOME/.ssh/authorized_keys",
        "~/.ssh/authorized_keys",
        "/home/azureuser/.ssh/a\nb",
        "/home/azureuser/.ssh/a\0b",
        "/home/azureuser/" + "a/" * 300,
    ],
)
def test_key_paths_that_are_refused(path: str) -> None:
    assert refusal(with_key(ED25519, path)) == "PublicKey/Path"


# --- hashes ---


SALT = OPTIONS.password_salt


@pytest.mark.parametrize(
    ("crypt_id", "length", "pattern"),
    [
        ("6", 10, rf"\$6\${SALT[:10]}\$[./A-Za-z0-9]{{86}}"),
        ("6", 64, rf"\$6\${SALT[:16]}\$[./A-Za-z0-9]{{86}}"),
        ("5", 1, rf"\$5\${SALT[:1]}\$[./A-Za-z0-9]{{43}}"),
        ("1", 10, rf"\$1\${SALT[:8]}\$[./A-Za-z0-9]{{22}}"),
        ("2a", 10, rf"\$2a\$12\${SALT[:21]}[Oeu][./A-Za-z0-9]{{31}}"),
    ],
)
def test_hashes_of_every_configured_kind(crypt_id: str, length: int, pattern: str) -> None:
    options = replace(OPTIONS, password_crypt_id=crypt_id, password_salt_length=length)

    def planned(settings: ProvisioningOptions) -> str:
        proposals = plan(PlanProvisioning(replace(OVF, password=PASSWORD), settings, NOBODY), b"", hash_password)
        return next(each.password_hash.reveal() for each in proposals if isinstance(each, SetPassword))

    assert re.fullmatch(pattern, planned(options))
    # Planned again after a restart it is the same; with another salt it is another.
    assert planned(options) == planned(options)
    assert planned(replace(options, password_salt=SALT[::-1])) != planned(options)


def test_the_hash_is_the_one_that_another_implementation_makes() -> None:
    for crypt_id in ("1", "5", "6"):
        made = hash_password(PASSWORD, crypt_id, "saltsalt").reveal()
        other = subprocess.run(
            ["openssl", "passwd", f"-{crypt_id}", "-salt", made.split("$")[2], "-stdin"],
            input=PASSWORD.reveal(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert other.stdout.strip() == made


def test_the_password_of_a_jit_account_is_hashed_and_goes_no_further() -> None:
    descriptor = sealed_memfd("password", PASSWORD.reveal().encode())
    (answer,) = on_hash_password(HashPassword("6", "saltsalt"), (descriptor,))
    assert isinstance(answer, PasswordHashed)
    assert answer.password_hash == hash_password(PASSWORD, "6", "saltsalt")
    for text in (b"", b"\xff\xfe", b"a\nb"):
        with pytest.raises(InputError):
            list(on_hash_password(HashPassword("6", "saltsalt"), (sealed_memfd("password", text),)))


@pytest.mark.parametrize(("password", "crypt_id"), [("a\nb", "6"), ("a\0b", "6"), ("a" * 257, "6"), ("ä" * 37, "2a")])
def test_passwords_that_can_not_be_hashed_whole_are_refused(password: str, crypt_id: str) -> None:
    with pytest.raises(InputError) as failure:
        hash_password(Secret(password), crypt_id, SALT)
    assert failure.value.where == "UserPassword"
    assert password not in str(failure.value)


@pytest.mark.parametrize("answer", [None, "*0", "*1", "$6$", "abJnggxhB/yWI", ""])
def test_a_library_that_does_not_make_the_kind_is_not_believed(answer: str | None) -> None:
    with pytest.raises(
        InputError, match=r"^Provisioning\.PasswordCryptId: this system's crypt\(3\) makes no \$6\$ hashes$"
    ):
        hash_password(PASSWORD, "6", SALT, library=lambda _, __: answer)


# --- custom data, and the worker as a whole ---


def worker(custom_data: bytes, decode: bool = True) -> list[object]:
    request = PlanProvisioning(replace(OVF, has_custom_data=True), replace(OPTIONS, decode_custom_data=decode), NOBODY)
    return list(on_plan_provisioning(request, (sealed_memfd("test", custom_data),)))


@pytest.mark.parametrize(("decode", "stored"), [(True, bytes(range(256))), (False, None)])
def test_custom_data_is_handed_back_in_a_sealed_file(decode: bool, stored: bytes | None) -> None:
    text = base64.encodebytes(bytes(range(256)))
    answers = worker(text, decode)
    (proposal, attached), *_ = [answer for answer in answers if isinstance(answer, tuple)]
    expected = text if stored is None else stored
    assert read_sealed(attached[0], 1000) == expected
    assert proposal == StoreCustomData(len(expected))
    assert answers[-1] == PlanComplete(len(answers) - 1)


@pytest.mark.parametrize("text", [b"#cloud-config\n", b"QUJ", b"QUJD!", b"QUI=QUI=", b"QUJ="])
def test_custom_data_that_is_no_base64_is_refused_before_anything_is_proposed(text: bytes) -> None:
    with pytest.raises(InputError) as failure:
        worker(text)
    assert failure.value.where == "CustomData"


def test_the_worker_wants_the_custom_data_and_nothing_else() -> None:
    with pytest.raises(BadDescriptor):
        list(on_plan_provisioning(PlanProvisioning(OVF, OPTIONS, NOBODY), ()))
