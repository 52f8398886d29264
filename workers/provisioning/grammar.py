# SPDX-License-Identifier: Apache-2.0
"""Owns what names, keys and paths from the OVF may look like; pure; runs in the provisioning worker.

Every refusal is an InputError that names the OVF element. The supervisor checks again, by rules of its own.
"""

import base64
import binascii
import posixpath
import re

from ipc.errors import InputError

USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
# Words that sudoers would not read as the name of one user: the first means everybody.
SUDOERS_WORDS = frozenset({"ALL", "Defaults", "User_Alias", "Runas_Alias", "Host_Alias", "Cmnd_Alias", "Cmd_Alias"})
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
LONGEST_HOST_NAME = 64
KEY_TYPES = frozenset(
    {
        "ssh-rsa",
        "ssh-dss",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
THUMBPRINT = re.compile(r"[0-9A-F]{40}")
BLOB = re.compile(r"[A-Za-z0-9+/]+={0,2}")
LONGEST_KEY = 16384
LONGEST_PATH = 512


def user_name(name: str) -> str:
    """An account name that useradd, chpasswd and sudoers all read as just that."""
    if name == "root":
        raise InputError("UserName", "root is not provisioned")
    if not USER.fullmatch(name):
        raise InputError("UserName", "is not 1 to 32 of A-Z a-z 0-9 _ . - beginning with a letter or _")
    if name in SUDOERS_WORDS:
        raise InputError("UserName", f"{name} has a meaning of its own in sudoers")
    return name


def host_name(name: str) -> str:
    """RFC 1123 labels, joined by dots, within what the kernel takes."""
    if len(name) > LONGEST_HOST_NAME:
        raise InputError("HostName", f"is longer than {LONGEST_HOST_NAME} characters")
    if not all(LABEL.fullmatch(label) for label in name.split(".")):
        raise InputError("HostName", "is not made of labels of 1 to 63 letters, digits and inner hyphens")
    return name


def public_key(value: str) -> str:
    """One authorized_keys line that begins with its key type: no options, which could run a command."""
    line = value.strip(" \t\r\n")
    if not line.isprintable():
        raise InputError("PublicKey/Value", "is not one line of printable text")
    kind, _, rest = line.partition(" ")
    if "-cert-v01@openssh.com" in kind:
        raise InputError("PublicKey/Value", "is a certificate: a host trusts its authority, not the certificate itself")
    if kind not in KEY_TYPES:
        raise InputError("PublicKey/Value", "does not begin with a key type that OpenSSH knows")
    if not BLOB.fullmatch(rest.partition(" ")[0]):
        raise InputError("PublicKey/Value", f"has no base64 text after {kind}")
    if len(line) > LONGEST_KEY:
        raise InputError("PublicKey/Value", f"is longer than {LONGEST_KEY} characters")
    return line


def thumbprint(text: str, element: str) -> str:
    """A certificate's thumbprint as Azure writes it, or in lower case, or in pairs with colons between them."""
    plain = text.strip().replace(":", "").upper()
    if not THUMBPRINT.fullmatch(plain):
        raise InputError(f"{element}/Fingerprint", "is no certificate's thumbprint: 40 hexadecimal digits")
    return plain


def key_path(path: str, home: str, home_dir: str, user: str, element: str = "PublicKey") -> str:
    """The path below `home` that `path` means. `$HOME` is the folder of homes; `home_dir`/`user` means `home`, too,
    wherever the account really lives."""
    where = f"{element}/Path"
    if not path:
        raise InputError(where, "is empty")
    if not path.isprintable() or len(path) > LONGEST_PATH:
        raise InputError(where, f"is not {LONGEST_PATH} printable characters at most")
    absolute = posixpath.normpath(path.replace("$HOME", home_dir))
    for base in (posixpath.normpath(home), posixpath.normpath(f"{home_dir}/{user}")):
        if absolute.startswith(f"{base}/"):
            return absolute.removeprefix(f"{base}/")
    raise InputError(where, f"{path} is not below {home}")


def custom_data(text: bytes, decode: bool) -> bytes:
    """The custom data to store: as it stood, or its base64 decoded, binary or not."""
    if not decode:
        return text
    packed = b"".join(text.split())
    try:
        content = base64.b64decode(packed, validate=True)
    except binascii.Error:
        raise InputError("CustomData", "is not base64, which Provisioning.DecodeCustomData asks for") from None
    if base64.b64encode(content) != packed:
        raise InputError("CustomData", "is base64 with bits left over at its end")
    return content
