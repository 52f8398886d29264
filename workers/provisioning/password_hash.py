# SPDX-License-Identifier: Apache-2.0
"""Owns the crypt(3) hash of the account's password; runs in the provisioning worker. The clear text ends here.

The salt is the supervisor's, from the kernel's random source. A library that can't make the wanted kind of hash is
told, never replaced by a weaker kind.
"""

import sys
from collections.abc import Callable

from ipc.errors import InputError
from ipc.secret import Secret

if sys.version_info >= (3, 13):
    from crypt_r import crypt
else:
    # The library's function itself: as `crypt` is loaded it tries every algorithm, which takes longer than a hash.
    from _crypt import crypt

Crypt = Callable[[str, str], str | None]

OPTION = "Provisioning.PasswordCryptId"
WHERE = "UserPassword"
LONGEST_SALT = {"1": 8, "5": 16, "6": 16}
BCRYPT = "2a"
BCRYPT_COST = 12
BCRYPT_SALT_LENGTH = 22
BCRYPT_LONGEST_BYTES = 72
LONGEST_BYTES = 256


def hash_password(password: Secret, crypt_id: str, salt: str, library: Crypt = crypt) -> Secret:
    """The hash of `password` by algorithm `crypt_id` (1, 2a, 5, 6) with the alphanumeric `salt`, or as much of it as
    the algorithm takes; bcrypt takes 22 characters and needs as many. InputError for a password or a setting that
    can't be used."""
    text = password.reveal()
    _check(text, crypt_id)
    setting = _setting(crypt_id, salt)
    try:
        result = library(text, setting)
    except OSError:
        result = None
    # libcrypt says no by None, by `*0` or `*1`, or by falling back to another setting.
    if result is None or not result.startswith(setting) or len(result) <= len(setting) + 20:
        raise InputError(OPTION, f"this system's crypt(3) makes no ${crypt_id}$ hashes")
    return Secret(result)


def _setting(crypt_id: str, salt: str) -> str:
    if crypt_id == BCRYPT:
        # 128 bits in characters of six: of the last one two bits count, and libcrypt changes all but these three.
        last = "Oeu"[ord(salt[BCRYPT_SALT_LENGTH - 1]) % 3]
        return f"${BCRYPT}${BCRYPT_COST:02}${salt[: BCRYPT_SALT_LENGTH - 1]}{last}"
    return f"${crypt_id}${salt[: LONGEST_SALT[crypt_id]]}$"


def _check(text: str, crypt_id: str) -> None:
    if any(character in text for character in "\0\r\n"):
        raise InputError(WHERE, "has a line break or a zero character in it, which no login can enter")
    size = len(text.encode())
    if size > LONGEST_BYTES:
        raise InputError(WHERE, f"is longer than {LONGEST_BYTES} bytes")
    if crypt_id == BCRYPT and size > BCRYPT_LONGEST_BYTES:
        raise InputError(WHERE, f"is longer than the {BCRYPT_LONGEST_BYTES} bytes that ${BCRYPT}$ hashes look at")
