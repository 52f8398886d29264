# SPDX-License-Identifier: Apache-2.0
"""The supervisor's judgement: the honest worker's plan passes, and every way to bend it is refused."""

import base64
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from ipc.errors import CommitError
from ipc.messages import (
    AccountFacts,
    CertificateKey,
    CommitAccount,
    CommitHostName,
    CommitKeyPair,
    CommitKeys,
    CommitPassword,
    CommitPaths,
    CommitRootLock,
    CommitSshd,
    CommitSudo,
    ConfigureSshd,
    CreateAccount,
    GrantSudo,
    KeyPair,
    LockRootPassword,
    Message,
    Ovf,
    PlaceKeyPair,
    PlaceKeys,
    PlanProvisioning,
    ProvisioningOptions,
    SetHostName,
    SetPassword,
    StoreCustomData,
    WorkerReady,
)
from ipc.secret import Secret
from supervisor import validate
from tests.unit.provisioning.samples import CORE, ED25519, KEY, NOBODY, OPTIONS, OVF, PASSWORD
from workers.provisioning.password_hash import hash_password
from workers.provisioning.plan import plan

CUSTOM = b"\x00binary"
CUSTOM_TEXT = base64.b64encode(CUSTOM)
FULL = replace(
    OVF,
    password=PASSWORD,
    has_custom_data=True,
    public_keys=(KEY, replace(KEY, path="$HOME/azureuser/.ssh/more"), replace(KEY, value="ssh-rsa AAAA second")),
)
CERTIFICATE = CertificateKey("0123456789ABCDEF" * 2 + "01234567", "ssh-rsa AAAAcert", has_private_key=True)
OTHER = CertificateKey("F" * 40, "ssh-rsa AAAAother", has_private_key=True)
# Keys by certificate: one beside a value, one pair.
CERTIFIED = replace(
    FULL,
    public_keys=(*FULL.public_keys, replace(KEY, value="", fingerprint=CERTIFICATE.thumbprint.lower())),
    key_pairs=(KeyPair("$HOME/azureuser/.ssh/id_rsa", CERTIFICATE.thumbprint),),
)
PATHS = CommitPaths()
MADE = AccountFacts(exists=True, uid=1000, gid=1000, home="/home/azureuser", uid_min=1000)


def honest(ovf: Ovf, options: ProvisioningOptions = OPTIONS, account: AccountFacts = NOBODY) -> list[Message]:
    return list(plan(PlanProvisioning(ovf, options, account, (CERTIFICATE, OTHER)), CUSTOM, hash_password))


def judge(
    proposals: list[Message], ovf: Ovf = FULL, options: ProvisioningOptions = OPTIONS, account: AccountFacts = NOBODY
) -> list[str]:
    """Everything that is wrong with a plan."""
    grounds = validate.Grounds(ovf, options, account, len(CUSTOM_TEXT), (CERTIFICATE, OTHER))
    texts = [validate.refusal(proposal, grounds) for proposal in proposals]
    return [text for text in (*texts, validate.plan_refusal(proposals, grounds)) if text is not None]


def test_the_honest_plan_becomes_requests_in_order() -> None:
    proposals = honest(FULL)
    assert judge(proposals) == []
    password = next(each for each in proposals if isinstance(each, SetPassword))
    assert [validate.commit_for(each, PATHS, MADE) for each in proposals] == [
        CommitHostName("vm1"),
        CommitAccount("azureuser", "/home/azureuser", 1000),
        CommitPassword("azureuser", password.password_hash),
        CommitSudo("azureuser", False, PATHS),
        CommitSshd(False, 180, PATHS),
        CommitKeys(1000, 1000, "/home/azureuser", ".ssh/authorized_keys", (ED25519, "ssh-rsa AAAA second")),
        CommitKeys(1000, 1000, "/home/azureuser", ".ssh/more", (ED25519,)),
        None,
        CommitRootLock(PATHS),
    ]


@pytest.mark.parametrize("crypt_id", ["1", "2a", "5", "6"])
@pytest.mark.parametrize("account", [NOBODY, CORE])
@pytest.mark.parametrize("decode", [True, False])
def test_what_the_worker_plans_the_supervisor_allows(crypt_id: str, account: AccountFacts, decode: bool) -> None:
    user = "core" if account.exists else "azureuser"
    keys = tuple(replace(key, path=key.path.replace("azureuser", user)) for key in FULL.public_keys)
    ovf = replace(FULL, user_name=user, public_keys=keys)
    options = replace(
        OPTIONS,
        password_crypt_id=crypt_id,
        password_salt_length=40,
        allow_reset_sys_user=True,
        decode_custom_data=decode,
    )
    stored = CUSTOM if decode else CUSTOM_TEXT
    proposals = list(plan(PlanProvisioning(ovf, options, account), stored, hash_password))
    assert judge(proposals, ovf, options, account) == []


def changed(kind: type[Message], **fields: object) -> Callable[[list[Message]], list[Message]]:
    return lambda proposals: [replace(each, **fields) if isinstance(each, kind) else each for each in proposals]


HASH = "$6$abcdefghij$" + "x" * 86
BENT: dict[str, Callable[[list[Message]], list[Message]]] = {
    "another host name": changed(SetHostName, host_name="vm2"),
    "another account": changed(CreateAccount, user_name="root"),
    "another home": changed(CreateAccount, home="/root"),
    "a home with dots": changed(CreateAccount, home="/home/x/../azureuser"),
    "a password for another": changed(SetPassword, user_name="root"),
    "a clear password": changed(SetPassword, password_hash=PASSWORD),
    "no hash": changed(SetPassword, password_hash=Secret("")),
    "a weaker hash": changed(SetPassword, password_hash=Secret("$1$abcdefgh$" + "x" * 22)),
    "another salt": changed(SetPassword, password_hash=Secret("$6$ABCDEFGHIJ$" + "x" * 86)),
    "a shorter salt": changed(SetPassword, password_hash=Secret("$6$abc$" + "x" * 86)),
    "an injected line": changed(SetPassword, password_hash=Secret(HASH[:-2] + "\nx")),
    "a line break after the hash": changed(SetPassword, password_hash=Secret(HASH + "\n")),
    "a colon in the hash": changed(SetPassword, password_hash=Secret(HASH[:-1] + ":")),
    "rounds": changed(SetPassword, password_hash=Secret("$6$rounds=1$abcdefghij$" + "x" * 86)),
    "sudo without password": changed(GrantSudo, without_password=True),
    "sudo for all": changed(GrantSudo, user_name="ALL"),
    "passwords on": changed(ConfigureSshd, password_authentication=True),
    "another interval": changed(ConfigureSshd, client_alive_interval_s=0),
    "keys elsewhere": changed(PlaceKeys, path=".bashrc"),
    "keys above": changed(PlaceKeys, path="../root/.ssh/authorized_keys"),
    "keys at the root": changed(PlaceKeys, path="/root/.ssh/authorized_keys"),
    "keys in another home": changed(PlaceKeys, home="/root"),
    "other keys": changed(PlaceKeys, keys=("ssh-rsa AAAA intruder",)),
    "keys twice": changed(PlaceKeys, keys=(ED25519, ED25519)),
    "options before a key": changed(PlaceKeys, keys=(f'command="x" {ED25519}',)),
    "a key too few": changed(PlaceKeys, keys=(ED25519,)),
    "more custom data": changed(StoreCustomData, size_bytes=len(CUSTOM_TEXT) + 1),
    "negative custom data": changed(StoreCustomData, size_bytes=-1),
    "no account": lambda all_: [each for each in all_ if not isinstance(each, CreateAccount)],
    "no password": lambda all_: [each for each in all_ if not isinstance(each, SetPassword)],
    "no root lock": lambda all_: all_[:-1],
    "no sshd": lambda all_: [each for each in all_ if not isinstance(each, ConfigureSshd)],
    "no keys": lambda all_: [each for each in all_ if not isinstance(each, PlaceKeys)],
    "nothing": lambda _: [],
    "twice": lambda all_: [all_[0], *all_],
    "a key file twice": lambda all_: all_[:6] + all_[5:],
    "backwards": lambda all_: all_[::-1],
    "no proposal": lambda all_: [*all_, WorkerReady()],
    "an order of its own": lambda all_: [*all_, CommitHostName("vm1")],
}


@pytest.mark.parametrize("way", BENT)
def test_a_bent_plan_is_refused_whole(way: str) -> None:
    proposals = honest(FULL)
    assert judge(proposals) == []
    wrong = judge(BENT[way](proposals))
    assert wrong
    assert PASSWORD.reveal() not in str(wrong)


BENT_PAIRS: dict[str, Callable[[list[Message]], list[Message]]] = {
    "another key pair": changed(PlaceKeyPair, thumbprint=OTHER.thumbprint),
    "another public half": changed(PlaceKeyPair, public_key=OTHER.public_key),
    "a pair elsewhere": changed(PlaceKeyPair, path=".ssh/other"),
    "a pair above": changed(PlaceKeyPair, path="../root/id_rsa"),
    "a pair in another home": changed(PlaceKeyPair, home="/root"),
    "a pair for another": changed(PlaceKeyPair, user_name="root"),
    "no pair": lambda all_: [each for each in all_ if not isinstance(each, PlaceKeyPair)],
    "a pair twice": lambda all_: [each for one in all_ for each in [one] * (1 + isinstance(one, PlaceKeyPair))],
    "another certificate's key": changed(PlaceKeys, keys=(ED25519, "ssh-rsa AAAA second", OTHER.public_key)),
}


@pytest.mark.parametrize("way", BENT_PAIRS)
def test_a_bent_plan_of_keys_by_certificate_is_refused_whole(way: str) -> None:
    proposals = honest(CERTIFIED)
    assert judge(proposals, CERTIFIED) == []
    pair = next(each for each in proposals if isinstance(each, PlaceKeyPair))
    home, line = "/home/azureuser", CERTIFICATE.public_key
    assert validate.commit_for(pair, PATHS, MADE) == CommitKeyPair(1000, 1000, home, ".ssh/id_rsa", line)
    assert judge(BENT_PAIRS[way](proposals), CERTIFIED)


@pytest.mark.parametrize(
    ("ovf", "options", "account", "extra"),
    [
        (replace(FULL, password=None), OPTIONS, NOBODY, SetPassword("azureuser", Secret(HASH))),
        (replace(FULL, password=Secret("")), OPTIONS, NOBODY, SetPassword("azureuser", Secret(HASH))),
        (replace(FULL, has_custom_data=False), OPTIONS, NOBODY, StoreCustomData(3)),
        (FULL, replace(OPTIONS, delete_root_password=False), NOBODY, LockRootPassword()),
        (FULL, OPTIONS, MADE, CreateAccount("azureuser", "/home/azureuser")),
        (FULL, OPTIONS, replace(MADE, uid=0), GrantSudo("azureuser", without_password=False)),
        (FULL, OPTIONS, replace(MADE, uid=999), SetPassword("azureuser", Secret(HASH))),
        (FULL, OPTIONS, replace(MADE, uid=999, for_a_person=False), GrantSudo("azureuser", without_password=False)),
        (FULL, OPTIONS, replace(MADE, uid=65534, for_a_person=False), GrantSudo("azureuser", without_password=False)),
        (FULL, OPTIONS, replace(MADE, home="/"), PlaceKeys("azureuser", "/", ".ssh/authorized_keys", (ED25519,))),
    ],
)
def test_what_was_not_asked_for_is_refused(
    ovf: Ovf, options: ProvisioningOptions, account: AccountFacts, extra: Message
) -> None:
    assert validate.refusal(extra, validate.Grounds(ovf, options, account, len(CUSTOM_TEXT))) is not None


@pytest.mark.parametrize("name", ["root", "ALL", "", "-x", "a:b", "a\n", "ü"])
def test_a_name_from_a_bad_parser_gets_nowhere(name: str) -> None:
    grounds = validate.Grounds(replace(FULL, user_name=name), OPTIONS, NOBODY, 0)
    assert validate.refusal(SetHostName("vm1"), grounds) is not None
    assert validate.refusal(GrantSudo(name, without_password=False), grounds) is not None


@pytest.mark.parametrize("name", ["", "-vm", "vm\n", "a_b", "x" * 64, "a..b", ".".join(["x" * 32] * 2)])
def test_a_host_name_from_a_bad_parser_gets_nowhere(name: str) -> None:
    grounds = validate.Grounds(replace(FULL, host_name=name), OPTIONS, NOBODY, 0)
    assert validate.refusal(SetHostName(name), grounds) is not None


@pytest.mark.parametrize("path", ["/home/azureuser/../../etc/x", "/etc/x", "", "/home/azureuser"])
def test_keys_that_a_bad_parser_puts_elsewhere_get_nowhere(path: str) -> None:
    grounds = validate.Grounds(replace(FULL, public_keys=(replace(KEY, path=path),)), OPTIONS, NOBODY, 0)
    for target in ("etc/x", ".", "x", path or "y"):
        assert validate.refusal(PlaceKeys("azureuser", "/home/azureuser", target, (ED25519,)), grounds) is not None


@pytest.mark.parametrize(
    "account", [NOBODY, replace(MADE, home="/elsewhere"), replace(MADE, uid=0), replace(MADE, gid=0)]
)
def test_keys_wait_for_the_account_that_was_planned(account: AccountFacts) -> None:
    keys = next(each for each in honest(FULL) if isinstance(each, PlaceKeys))
    with pytest.raises(CommitError):
        validate.commit_for(keys, PATHS, account)
