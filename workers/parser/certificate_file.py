# SPDX-License-Identifier: Apache-2.0
"""Owns the Certificates document (wire-protocol.md 5.2): its bytes to the closed CMS envelope; runs in the parser.

The envelope is not looked into: who has the key does that.
"""

import base64
import binascii

from ipc.errors import InputError
from ipc.messages import CertificateFile
from workers.parser import xml
from workers.parser.answer import fitting

KNOWN_FORMAT = "Pkcs7BlobWithPfxContents"
_SEQUENCE = b"\x30"  # what every DER of a CMS begins with


def parse(document: bytes) -> tuple[CertificateFile, bytes]:
    """The message and the envelope's DER, empty without certificates. Raises InputError that names the element."""
    root = xml.parse(xml.as_utf8(document), namespaces=False)
    if root.name != "CertificateFile":
        raise InputError("CertificateFile", "is not the document's root element")
    kind = (root.text_of("Format") or "").strip()
    skipped = kind if kind != KNOWN_FORMAT else ""
    data = "" if skipped else root.text_of("Data") or ""
    return fitting(CertificateFile((root.text_of("Incarnation") or "").strip(), skipped)), _der(data)


def _der(text: str) -> bytes:
    try:
        der = base64.b64decode("".join(text.split()).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InputError("Data", "is not base64") from None
    if der and not der.startswith(_SEQUENCE):
        raise InputError("Data", "holds no DER: a CMS envelope was expected")
    return der
