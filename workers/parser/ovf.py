# SPDX-License-Identifier: Apache-2.0
"""Owns ovf-env.xml (provisioning.md 5): the document to a typed `Ovf`, its custom data and a copy without password.

Runs in the parser. The password leaves in the `Ovf` alone: no problem's text and no copy holds it.
"""

from typing import NamedTuple

from ipc.errors import InputError
from ipc.messages import KeyPair, Ovf, PublicKey
from ipc.secret import Secret
from workers.parser import xml

OVF_NAMESPACE = "http://schemas.dmtf.org/ovf/environment/1"
WA_NAMESPACE = "http://schemas.microsoft.com/windowsazure"
KNOWN_VERSION = "1.0"

# The lengths that ipc/messages.py allows, and what all keys may take of one frame (ipc/codec.py).
MAX_TEXT = 1024
MAX_KEY_TEXT = 16384
MAX_KEYS = 256
MAX_ALL_KEYS_BYTES = 128 * 1024


class Parsed(NamedTuple):
    """What one document gives: the message, the custom data as it stood there, the document with `*` as password."""

    ovf: Ovf
    custom_data: bytes
    redacted: bytes


def parse(document: bytes) -> Parsed:
    """`document` is the file's bytes. Raises InputError that names the element, or the line and column."""
    source = xml.as_utf8(document)
    root = xml.parse(source, namespaces=True)
    if root.name != f"{OVF_NAMESPACE} Environment":
        raise InputError("Environment", "is not the document's root element")
    section = _container(root, "ProvisioningSection")
    version = _required(section, "Version", "ProvisioningSection")
    linux = _container(section, "LinuxProvisioningConfigurationSet")
    settings = _container(_container(root, "PlatformSettingsSection"), "PlatformSettings")
    agent = settings.text_of(f"{WA_NAMESPACE} ProvisionGuestAgent")
    if not agent:
        raise InputError("PlatformSettings/ProvisionGuestAgent", "is missing or empty")
    custom_data = linux.text_of(f"{WA_NAMESPACE} CustomData") or ""
    public_keys, key_pairs = _keys(linux)
    ovf = Ovf(
        version=version,
        host_name=_required(linux, "HostName", "LinuxProvisioningConfigurationSet"),
        user_name=_required(linux, "UserName", "LinuxProvisioningConfigurationSet"),
        password=_password(linux),
        disable_ssh_password_authentication=_says(_optional(linux, "DisableSshPasswordAuthentication"), "true"),
        public_keys=public_keys,
        key_pairs=key_pairs,
        provision_guest_agent=not _says(agent, "false"),
        has_custom_data=bool(custom_data),
        warnings=_warnings(version),
    )
    return Parsed(ovf, custom_data.encode(), redact(source, root))


def redact(source: bytes, root: xml.Element) -> bytes:
    """`source` with the content of every UserPassword element, whatever it is made of, replaced by `*`."""
    pieces, done = [], 0
    for element in (root, *root.descendants()):
        if element.name.rpartition(" ")[2] != "UserPassword" or element.start < done:
            continue
        content = xml.content_start(source, element)
        if content is None:
            continue
        pieces += [source[done:content], b"*"]
        done = element.end
    return b"".join((*pieces, source[done:]))


def _container(node: xml.Element, name: str) -> xml.Element:
    found = node.first(f"{WA_NAMESPACE} {name}")
    if found is None:
        raise InputError(name, "is missing")
    return found


def _required(node: xml.Element, name: str, container: str) -> str:
    text = _optional(node, name)
    if not text:
        raise InputError(f"{container}/{name}", "is missing or empty")
    return text


def _optional(node: xml.Element, name: str, limit: int = MAX_TEXT) -> str:
    """The text without white space around it, empty if there is none."""
    text = (node.text_of(f"{WA_NAMESPACE} {name}") or "").strip()
    if len(text) > limit:
        raise InputError(name, f"is longer than {limit} characters")
    return text


def _says(text: str, word: str) -> bool:
    return text.strip().lower() == word


def _password(linux: xml.Element) -> Secret | None:
    """The password to the letter: white space belongs to it."""
    text = linux.text_of(f"{WA_NAMESPACE} UserPassword")
    if text is None:
        return None
    if len(text) > MAX_TEXT:
        raise InputError("UserPassword", f"is longer than {MAX_TEXT} characters")
    return Secret(text)


def _keys(linux: xml.Element) -> tuple[tuple[PublicKey, ...], tuple[KeyPair, ...]]:
    public_keys, key_pairs, total = [], [], 0
    for number, node in enumerate(linux.all(f"{WA_NAMESPACE} PublicKey"), 1):
        where = f"SSH/PublicKeys/PublicKey {number}"
        value = _optional(node, "Value", MAX_KEY_TEXT)
        key = PublicKey(_required(node, "Path", where), _optional(node, "Fingerprint"), value)
        if not key.value and not key.fingerprint:
            raise InputError(where, "has neither Value nor Fingerprint")
        total += sum(len(text.encode()) for text in (key.path, key.fingerprint, key.value))
        public_keys.append(key)
    for number, node in enumerate(linux.all(f"{WA_NAMESPACE} KeyPair"), 1):
        where = f"SSH/KeyPairs/KeyPair {number}"
        pair = KeyPair(_required(node, "Path", where), _required(node, "Fingerprint", where))
        total += sum(len(text.encode()) for text in (pair.path, pair.fingerprint))
        key_pairs.append(pair)
    if max(len(public_keys), len(key_pairs)) > MAX_KEYS or total > MAX_ALL_KEYS_BYTES:
        raise InputError("SSH", f"more than {MAX_KEYS} keys or {MAX_ALL_KEYS_BYTES} bytes of them")
    return tuple(public_keys), tuple(key_pairs)


def _warnings(version: str) -> tuple[str, ...]:
    """A version that is newer, compared as text, is read as if it were the known one, and that is said."""
    if version > KNOWN_VERSION:
        return (f"ovf-env.xml has version {version[:32]!r}, newer than {KNOWN_VERSION}",)
    return ()
