# SPDX-License-Identifier: Apache-2.0
"""Owns the plan: OVF, settings and account facts in, the proposals out, in the order in which they are to be done.

Pure; runs in the provisioning worker. All of the OVF is judged before the first proposal leaves.
"""

import posixpath
from collections.abc import Callable, Mapping

from ipc.errors import InputError
from ipc.messages import (
    AccountFacts,
    CertificateKey,
    ConfigureSshd,
    CreateAccount,
    GrantSudo,
    KeyPair,
    LockRootPassword,
    Message,
    PlaceKeyPair,
    PlaceKeys,
    PlanProvisioning,
    ProvisioningOptions,
    PublicKey,
    SetHostName,
    SetPassword,
    StoreCustomData,
)
from ipc.secret import Secret
from workers.provisioning import grammar

BCRYPT = "2a"
HashPassword = Callable[[Secret, str, str], Secret]

# What kernel and distributions use for "nobody", and no uid at all; a person may have any other above uid_min.
NOBODIES = frozenset({65534, 65535, 0xFFFFFFFE, 0xFFFFFFFF})


def plan(request: PlanProvisioning, custom_data: bytes, hash_password: HashPassword) -> tuple[Message, ...]:
    """The proposals for the OVF of `request` (provisioning.md 3, 6, 8). `custom_data` is what will be stored.
    InputError names the OVF element that can't be had."""
    ovf, options, account = request.ovf, request.options, request.account
    user = grammar.user_name(ovf.user_name)
    home = account.home if account.exists else f"{options.home_dir.rstrip('/')}/{user}"
    password = ovf.password if ovf.password is not None and ovf.password.reveal() else None
    _check_account(account, options, has_password=password is not None)
    proposals: list[Message] = [SetHostName(grammar.host_name(ovf.host_name))]
    if not account.exists:
        proposals.append(CreateAccount(user, home))
    if password is not None:
        hashed = hash_password(password, options.password_crypt_id, _salt(options))
        proposals.append(SetPassword(user, hashed))
    proposals.append(GrantSudo(user, without_password=password is None))
    proposals.append(ConfigureSshd(not ovf.disable_ssh_password_authentication, options.ssh_client_alive_interval))
    proposals.extend(_keys(request, home))
    if ovf.has_custom_data:
        proposals.append(StoreCustomData(len(custom_data)))
    if options.delete_root_password:
        proposals.append(LockRootPassword())
    return tuple(proposals)


def _salt(options: ProvisioningOptions) -> str:
    """As long as configured; for bcrypt all of it, which takes its own share."""
    salt = options.password_salt
    return salt if options.password_crypt_id == BCRYPT else salt[: options.password_salt_length]


def _check_account(account: AccountFacts, options: ProvisioningOptions, *, has_password: bool) -> None:
    if not account.exists:
        return
    if account.uid == 0:
        raise InputError("UserName", "is another name of root")
    if account.uid >= account.uid_min and account.uid not in NOBODIES:
        return
    # The reference goes on, and a web server's account can log in and use sudo.
    if not account.for_a_person:
        raise InputError("UserName", f"is the account of a daemon, uid {account.uid}, that nobody logs in to")
    if has_password and not options.allow_reset_sys_user:
        raise InputError(
            "UserPassword",
            f"is for a system account, uid {account.uid} below {account.uid_min}; that takes "
            "Provisioning.AllowResetSysUser=y",
        )


def _keys(request: PlanProvisioning, home: str) -> list[Message]:
    """One proposal a file of public keys, each key once, in the OVF's order; then one a key pair."""
    ovf, user, home_dir = request.ovf, request.ovf.user_name, request.options.home_dir.rstrip("/")
    known = {each.thumbprint: each for each in request.certificates}
    files: dict[str, dict[str, None]] = {}
    for key in ovf.public_keys:
        path = _path(key, "PublicKey", home, home_dir, user)
        files.setdefault(path, {})[_public_key(key, known)] = None
    placed: list[Message] = [PlaceKeys(user, home, path, tuple(keys)) for path, keys in files.items()]
    pairs: dict[str, PlaceKeyPair] = {}
    for pair in ovf.key_pairs:
        path = _path(pair, "KeyPair", home, home_dir, user)
        certificate = _certificate(pair.fingerprint, "KeyPair", known)
        if not certificate.has_private_key:
            raise InputError("KeyPair", f"the host has sent certificate {certificate.thumbprint} without a private key")
        if {path, f"{path}.pub"} & {*files, *pairs, *(f"{other}.pub" for other in pairs)}:
            raise InputError("KeyPair/Path", f"{pair.path} is asked for twice")
        pairs[path] = PlaceKeyPair(user, home, path, certificate.thumbprint, certificate.public_key)
    return placed + list(pairs.values())


def _path(key: PublicKey | KeyPair, element: str, home: str, home_dir: str, user: str) -> str:
    if not posixpath.normpath(home).strip("/.") or not home.startswith("/"):
        raise InputError(element, f"has no home of {user} to go to: passwd names {home or 'none'}")
    return grammar.key_path(key.path, home, home_dir, user, element)


def _public_key(key: PublicKey, known: Mapping[str, CertificateKey]) -> str:
    """Its value counts; where there is none, the certificate that it names."""
    if key.value.strip():
        return grammar.public_key(key.value)
    return _certificate(key.fingerprint, "PublicKey", known).public_key


def _certificate(fingerprint: str, element: str, known: Mapping[str, CertificateKey]) -> CertificateKey:
    if not fingerprint.strip():
        raise InputError(element, "is named by nothing: neither value nor thumbprint")
    thumbprint = grammar.thumbprint(fingerprint, element)
    if thumbprint not in known:
        raise InputError(element, f"names certificate {thumbprint}, which the host has not sent")
    if not known[thumbprint].public_key:
        raise InputError(element, f"names certificate {thumbprint}, whose key is of a kind that ssh does not have")
    return known[thumbprint]
