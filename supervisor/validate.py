# SPDX-License-Identifier: Apache-2.0
"""Owns the judgement on what the provisioning worker proposes, and the committers' requests that follow from it.

Runs in the supervisor; pure. A proposal is compared with the OVF, the settings and the supervisor's own facts, never
with anything that the worker says about itself; the grammar here is the supervisor's own, not the worker's.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipc.errors import CommitError
from ipc.messages import (
    AccountFacts,
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
    LockRootPassword,
    Message,
    PlaceKeyPair,
    PlaceKeys,
    SetHostName,
    SetPassword,
    StoreCustomData,
)
from ipc.secret import Secret
from supervisor.grounds import Grounds

__all__ = ["Grounds", "commit_for", "is_hash", "plan_refusal", "refusal"]

# The order of a plan, and of the commits: provisioning.md 3, step 6.
ORDER: tuple[type[Message], ...] = (
    SetHostName,
    CreateAccount,
    SetPassword,
    GrantSudo,
    ConfigureSshd,
    PlaceKeys,
    PlaceKeyPair,
    StoreCustomData,
    LockRootPassword,
)
# Of these a plan may have several.
FILES = (PlaceKeys, PlaceKeyPair)
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
NO_USERS = frozenset({"root", "ALL", "Defaults", "User_Alias", "Runas_Alias", "Host_Alias", "Cmnd_Alias", "Cmd_Alias"})
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST = re.compile(rf"(?!.{{65}}){LABEL}(\.{LABEL})*")
KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( [^\x00-\x1f\x7f]*)?")
PATH = re.compile(r"[^/\x00-\x1f\x7f]+(/[^/\x00-\x1f\x7f]+)*")
# Salt at most so long, hash exactly so long, in crypt(3)'s alphabet.
HASHES: Mapping[str, tuple[int, int]] = {"1": (8, 22), "5": (16, 43), "6": (16, 86)}


def refusal(proposal: Message, grounds: Grounds) -> str | None:
    """Why `proposal` can't be allowed; None when it can. The text names no secret."""
    judge = _JUDGES.get(type(proposal))
    if judge is None:
        return f"{type(proposal).__name__} is no proposal"
    named = getattr(proposal, "user_name", grounds.ovf.user_name)
    if named != grounds.ovf.user_name:
        return "names another account than the OVF"
    if not USER.fullmatch(named) or named in NO_USERS:
        return "the account's name is none that may be provisioned"
    if grounds.account.exists and grounds.account.uid == 0:
        return "the account is another name of root"
    if grounds.is_a_daemons:
        return "the account is a daemon's"
    return judge(proposal, grounds)


def plan_refusal(proposals: Sequence[Message], grounds: Grounds) -> str | None:
    """Why the proposals, each allowed by itself, are not the whole plan that the OVF asks for; None when they are."""
    kinds = [type(proposal) for proposal in proposals]
    if not set(kinds) <= set(ORDER):
        return "the plan holds what is no proposal"
    single = [kind for kind in kinds if kind not in FILES]
    missing = _expected(grounds) - set(kinds)
    placed = [(each.path, key) for each in proposals if isinstance(each, PlaceKeys) for key in each.keys]
    pairs = [(each.path, each.thumbprint, each.public_key) for each in proposals if isinstance(each, PlaceKeyPair)]
    wrong = {
        "proposals are out of order": kinds != sorted(kinds, key=ORDER.index),
        f"the plan lacks {', '.join(sorted(kind.__name__ for kind in missing))}": bool(missing),
        "the plan proposes something twice": len(set(single)) != len(single),
        "the plan places a key twice": len(set(placed)) != len(placed),
        "the plan does not place every key of the OVF": set(placed) != grounds.keys,
        "the plan does not place every key pair of the OVF": sorted(pairs) != sorted(grounds.pairs),
    }
    return next((text for text, is_so in wrong.items() if is_so), None)


def commit_for(proposal: Message, paths: CommitPaths, account: AccountFacts) -> Message | None:
    """The committer's request for an allowed proposal; None for custom data, which the supervisor stores itself.

    `account` is read anew after the account was made. CommitError when it is not the one that keys were planned for."""
    build = _REQUESTS.get(type(proposal))
    return None if build is None else build(proposal, paths, account)


def is_hash(password_hash: Secret, crypt_id: str, salt: str) -> bool:
    """Whether it looks as crypt(3) makes one of the kind `crypt_id` with as much of `salt` as that takes."""
    if crypt_id in HASHES:
        longest, length = HASHES[crypt_id]
        wanted = rf"\${crypt_id}\${salt[:longest]}\$[./A-Za-z0-9]{{{length}}}"
    else:
        wanted = rf"\$2a\$1[0-9]\${salt[:21]}[./A-Za-z0-9]{{32}}"
    return re.fullmatch(wanted, password_hash.reveal()) is not None


def _expected(grounds: Grounds) -> set[type[Message]]:
    conditions: dict[type[Message], bool] = {
        SetHostName: True,
        CreateAccount: not grounds.account.exists,
        SetPassword: grounds.has_password,
        GrantSudo: True,
        ConfigureSshd: True,
        PlaceKeys: bool(grounds.ovf.public_keys),
        PlaceKeyPair: bool(grounds.ovf.key_pairs),
        StoreCustomData: grounds.ovf.has_custom_data,
        LockRootPassword: grounds.options.delete_root_password,
    }
    return {kind for kind, wanted in conditions.items() if wanted}


def _host_name(proposal: SetHostName, grounds: Grounds) -> str | None:
    good = proposal.host_name == grounds.ovf.host_name and HOST.fullmatch(proposal.host_name)
    return (
        None
        if good and max(map(len, proposal.host_name.split("."))) < 64
        else "not the OVF's host name, or none at all"
    )


def _account(proposal: CreateAccount, grounds: Grounds) -> str | None:
    if grounds.account.exists:
        return "the account exists"
    if proposal.home != grounds.home or posixpath.normpath(proposal.home) != proposal.home:
        return "the home is not the configured one"
    return None


def _password(proposal: SetPassword, grounds: Grounds) -> str | None:
    options = grounds.options
    if not grounds.has_password:
        return "the OVF has no password"
    if grounds.is_system_account and not options.allow_reset_sys_user:
        return "the account is a system account"
    salt = options.password_salt
    if options.password_crypt_id in HASHES:
        salt = salt[: options.password_salt_length]
    is_right = is_hash(proposal.password_hash, options.password_crypt_id, salt)
    return None if is_right else "not a hash of the configured kind and salt"


def _sudo(proposal: GrantSudo, grounds: Grounds) -> str | None:
    return None if proposal.without_password == (not grounds.has_password) else "not the sudo rule that the OVF implies"


def _sshd(proposal: ConfigureSshd, grounds: Grounds) -> str | None:
    wanted = (not grounds.ovf.disable_ssh_password_authentication, grounds.options.ssh_client_alive_interval)
    given = (proposal.password_authentication, proposal.client_alive_interval_s)
    return None if given == wanted else "not the sshd settings that OVF and configuration ask for"


def _place(proposal: PlaceKeys | PlaceKeyPair, grounds: Grounds) -> str | None:
    if proposal.home != grounds.home or not posixpath.normpath(proposal.home).strip("/."):
        return "not the account's home"
    if not PATH.fullmatch(proposal.path) or {".", ".."} & set(proposal.path.split("/")):
        return "not a path below the home"
    return None


def _key_pair(proposal: PlaceKeyPair, grounds: Grounds) -> str | None:
    elsewhere = _place(proposal, grounds)
    if elsewhere:
        return elsewhere
    is_wanted = (proposal.path, proposal.thumbprint, proposal.public_key) in grounds.pairs
    return None if is_wanted and KEY.fullmatch(proposal.public_key) else "not a key pair that the OVF puts there"


def _keys(proposal: PlaceKeys, grounds: Grounds) -> str | None:
    elsewhere = _place(proposal, grounds)
    if elsewhere:
        return elsewhere
    wanted = grounds.keys
    if not all(KEY.fullmatch(key) and (proposal.path, key) in wanted for key in proposal.keys):
        return "not a key that the OVF puts there"
    return None if len(set(proposal.keys)) == len(proposal.keys) else "a key comes twice"


def _custom_data(proposal: StoreCustomData, grounds: Grounds) -> str | None:
    whole = grounds.custom_data_bytes
    low, high = (0, whole * 3 // 4) if grounds.options.decode_custom_data else (whole, whole)
    fits = grounds.ovf.has_custom_data and low <= proposal.size_bytes <= high
    return None if fits else "not the OVF's custom data"


def _root(proposal: LockRootPassword, grounds: Grounds) -> str | None:
    return None if grounds.options.delete_root_password else "the configuration does not ask for it"


_JUDGES: Mapping[type[Message], Callable[[Any, Grounds], str | None]] = {
    SetHostName: _host_name,
    CreateAccount: _account,
    SetPassword: _password,
    GrantSudo: _sudo,
    ConfigureSshd: _sshd,
    PlaceKeys: _keys,
    PlaceKeyPair: _key_pair,
    StoreCustomData: _custom_data,
    LockRootPassword: _root,
}


def _place_keys(proposal: PlaceKeys, _: CommitPaths, account: AccountFacts) -> Message:
    _check_account(proposal, account)
    return CommitKeys(account.uid, account.gid, proposal.home, proposal.path, proposal.keys)


def _place_key_pair(proposal: PlaceKeyPair, _: CommitPaths, account: AccountFacts) -> Message:
    _check_account(proposal, account)
    return CommitKeyPair(account.uid, account.gid, proposal.home, proposal.path, proposal.public_key)


def _check_account(proposal: PlaceKeys | PlaceKeyPair, account: AccountFacts) -> None:
    if not account.exists or account.home != proposal.home or account.uid < 1 or account.gid < 1:
        raise CommitError(f"account {proposal.user_name} is not there as it was planned for")


_REQUESTS: Mapping[type[Message], Callable[[Any, CommitPaths, AccountFacts], Message]] = {
    SetHostName: lambda each, *_: CommitHostName(each.host_name),
    CreateAccount: lambda each, _, account: CommitAccount(each.user_name, each.home, account.uid_min),
    SetPassword: lambda each, *_: CommitPassword(each.user_name, each.password_hash),
    GrantSudo: lambda each, paths, _: CommitSudo(each.user_name, each.without_password, paths),
    ConfigureSshd: lambda each, paths, _: CommitSshd(each.password_authentication, each.client_alive_interval_s, paths),
    PlaceKeys: _place_keys,
    PlaceKeyPair: _place_key_pair,
    LockRootPassword: lambda _, paths, __: CommitRootLock(paths),
}
