# SPDX-License-Identifier: Apache-2.0
"""Owns the blobs of the emulated storage account: who may read and write which by what URL, and what is in them.

Runs in test processes; the caller holds the lock. Both ways in, its own address and the HostGAPlugin, end here.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.fabric.status_document import read_status
from tests.fabric.wire_book import Refusal, Trial

# The name can't be resolved, anywhere.
NOWHERE = "https://md-emulated.z1.blob.invalid"
STATUS = "/$system/vm.status"
PAGE, MOST_PAGES_BYTES, MOST_BLOB_BYTES = 512, 4 * 1024 * 1024, 64 * 1024 * 1024
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Blob:
    """One blob; `is_whole`: nothing of it is still to come; `writes`: so many times was it written whole."""

    kind: str = "BlockBlob"
    content: bytearray = field(default_factory=bytearray)
    is_whole: bool = True
    writes: int = 0


@dataclass
class BlobStore:
    """All blobs of one account, by their path; `base` is scheme and host of every URL. `statuses` are those that came
    whole to where the status goes."""

    base: str = NOWHERE
    blobs: dict[str, Blob] = field(default_factory=dict)
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    statuses: list[dict[str, Any]] = field(default_factory=list)
    _profiles: int = 0

    # --- URLs

    def url(self, path: str, permissions: str = "r") -> str:
        """The address of `path` with a shared access signature for `permissions`."""
        told = f"sv=2018-03-28&sr=b&sk=system-1&sp={permissions}&se=9999-01-01T00%3A00%3A00Z"
        return f"{self.base}{quote(path, safe='/$')}?{told}&sig={quote(self._signature(path, permissions), safe='')}"

    def status_blob(self) -> str:
        return self.url(STATUS, "rw")

    def manifest(self, plugin: str) -> str:
        """Where the manifest of `plugin` is: an empty one, unless one was put there."""
        path = f"/manifests/{plugin}_manifest.xml"
        empty = b'<?xml version="1.0" encoding="utf-8"?><PluginVersionManifest><Plugins /></PluginVersionManifest>'
        self.blobs.setdefault(path, Blob(content=bytearray(empty)))
        return self.url(path)

    def stock(self, handler: str, versions: Mapping[str, Sequence[bytes]]) -> str:
        """Have the packages of `handler`, each at as many places as its version has contents, and the manifest that
        names them, instead of the one there was; its URL."""
        told = ""
        for version, contents in versions.items():
            places = [f"/packages/{number}/{handler}__{version}.zip" for number in range(len(contents))]
            uris = map(self.put_there, places, contents)
            listed = "".join(f"<Uri>{escape(uri)}</Uri>" for uri in uris)
            told += f"<Plugin><Version>{version}</Version><Uris>{listed}</Uris></Plugin>"
        manifest = f"<PluginVersionManifest><Plugins>{told}</Plugins><InternalPlugins /></PluginVersionManifest>"
        head = '<?xml version="1.0" encoding="utf-8"?>'
        return self.put_there(f"/manifests/{handler}_manifest.xml", f"{head}{manifest}".encode())

    def profile(self, content: bytes) -> str:
        """Where an artifacts profile that says so is."""
        self._profiles += 1
        return self.put_there(f"/$system/vm.{self._profiles}.vmSettings", content)

    def put_there(self, path: str, content: bytes) -> str:
        """Have `content` at `path`; its URL, for reading."""
        self.blobs[path] = Blob(content=bytearray(content), writes=1)
        return self.url(path)

    def _signature(self, path: str, permissions: str) -> str:
        digest = hmac.new(self._secret, f"{permissions}\n{path}".encode(), hashlib.sha256).digest()
        return base64.b64encode(digest).decode()

    # --- access

    def read(self, url: str, trial: Trial) -> bytes:
        """What is there. Raises Refusal."""
        path, _ = self._admit(url, "r", trial)
        blob = self.blobs.get(path)
        trial.demand("blob-there", blob is not None and blob.is_whole, f"there is no blob at {path}", 404)
        assert blob is not None
        return bytes(blob.content)

    def accept(self, url: str, headers: Mapping[str, str], content: bytes, trial: Trial) -> Callable[[], None]:
        """Judge a PUT, by whatever way it came; what accepting it changes. Raises Refusal."""
        write = self.check_write(url, headers, content, trial)
        status = read_status(write.text, trial) if write.path == STATUS and write.blob.is_whole else None

        def effect() -> None:
            self.write(write)
            if status is not None:
                self.statuses.append(status)

        return effect

    def check_write(self, url: str, headers: Mapping[str, str], content: bytes, trial: Trial) -> "Write":
        """Judge a PUT, whose headers have names in lower case; nothing is written yet. Raises Refusal."""
        path, query = self._admit(url, "w", trial)
        version, date = headers.get("x-ms-version", ""), headers.get("x-ms-date", "")
        demand = trial.demand
        demand("blob-version", re.fullmatch(r"20\d\d-\d\d-\d\d", version) is not None, f"x-ms-version is {version!r}")
        demand("blob-date", _is_date(date), f"x-ms-date {date!r} is no time", 403)
        if query.get("comp") == ["page"]:
            return self._pages(path, headers, content, trial)
        demand("blob-comp", "comp" not in query, f"comp={query.get('comp')} is none that is known")
        kind = headers.get("x-ms-blob-type")
        demand("blob-type", kind in {"BlockBlob", "PageBlob"}, f"x-ms-blob-type is {kind!r}")
        if kind == "BlockBlob":
            return Write(path, Blob("BlockBlob", bytearray(content)))
        size = headers.get("x-ms-blob-content-length", "")
        right = size.isdigit() and int(size) % PAGE == 0 and int(size) <= MOST_BLOB_BYTES
        demand("blob-size", right, f"x-ms-blob-content-length {size!r} is no multiple of {PAGE}")
        demand("blob-empty", not content, "a page blob is made empty")
        return Write(path, Blob("PageBlob", bytearray(int(size)), is_whole=False))

    def _pages(self, path: str, headers: Mapping[str, str], content: bytes, trial: Trial) -> "Write":
        demand, blob = trial.demand, self.blobs.get(path)
        demand("blob-made", blob is not None and blob.kind == "PageBlob", f"there is no page blob at {path}", 404)
        assert blob is not None
        update = headers.get("x-ms-page-write")
        demand("blob-page-write", update == "update", f"x-ms-page-write is {update!r}")
        told = headers.get("x-ms-range", "")
        form = RANGE.fullmatch(told)
        first, last = map(int, form.groups()) if form else (0, -1)
        aligned = form is not None and first % PAGE == 0 and (last + 1) % PAGE == 0 and first < last
        fits = last < len(blob.content) and last + 1 - first <= MOST_PAGES_BYTES
        demand("blob-range", aligned and fits, f"x-ms-range {told!r} is no pages of {len(blob.content)} bytes", 416)
        demand("blob-range-length", len(content) == last + 1 - first, f"{len(content)} bytes come for {told}")
        changed = bytearray(blob.content)
        changed[first : last + 1] = content
        return Write(path, Blob("PageBlob", changed, is_whole=blob.is_whole or last + 1 == len(changed)))

    def write(self, write: "Write") -> None:
        """Carry it out."""
        before = self.blobs.get(write.path)
        write.blob.writes = (0 if before is None else before.writes) + write.blob.is_whole
        self.blobs[write.path] = write.blob

    def _admit(self, url: str, permission: str, trial: Trial) -> tuple[str, dict[str, list[str]]]:
        """Path and query of a URL that allows that. Raises Refusal, which never says a signature."""
        demand = trial.demand
        try:
            parts = urlsplit(url)
            query = parse_qs(parts.query, keep_blank_values=True)
        except ValueError:
            raise Refusal("blob-url", "what is asked for is no URL") from None
        demand("blob-url", f"{parts.scheme}://{parts.netloc}" == self.base, "the URL is not of this account", 404)
        path = unquote(parts.path)
        granted = (query.get("sp") or [""])[0]
        told = (query.get("sig") or [""])[0]
        right = hmac.compare_digest(told.encode(), self._signature(path, granted).encode())
        demand("blob-signature", right, f"AuthenticationFailed: the signature is not that of {path}", 403)
        demand("blob-permission", permission in granted, f"the signature for {path} allows {granted!r} only", 403)
        return path, query


@dataclass(frozen=True)
class Write:
    """A write that was judged right: the blob that is at `path` after it."""

    path: str
    blob: Blob

    @property
    def text(self) -> bytes:
        """What it says, without the filling of its last page."""
        return bytes(self.blob.content).rstrip(b"\0 ")


def _is_date(text: str) -> bool:
    """By the second, in one of the two forms that are in use."""
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%a, %d %b %Y %H:%M:%S GMT"):
        try:
            datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return True
    return False
