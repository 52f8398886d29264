# SPDX-License-Identifier: Apache-2.0
"""Owns HandlerManifest.json (extensions.md 5): its bytes to a typed `HandlerManifest`; runs in the parser.

A value that is of no use counts as if it were not there, with a warning; commands and structure have to be right.
"""

import re
from collections.abc import Iterator
from typing import Any

from ipc.errors import InputError
from ipc.messages import HandlerManifest, ServiceLimits
from ipc.messages.extension_rules import MOST_SERVICES
from workers.parser.answer import fitting
from workers.parser.json_document import decode

COMMANDS = ("install", "enable", "update", "disable", "uninstall")
# Key -> field.
FLAGS = {
    "reportHeartbeat": "reports_heartbeat",
    "continueOnUpdateFailure": "continues_on_update_failure",
    "supportsMultipleExtensions": "supports_multiple_extensions",
}
# Key -> field and most.
LIMITS = {"cpuQuotaPercentage": ("cpu_percent", 100_000), "memoryQuotaInMB": ("memory_mib", 1 << 24)}
SIGNING = {"type": "signing_type", "publisher": "signing_publisher", "version": "signing_version"}
UPDATE_WITH_INSTALL = "updatewithinstall"
MAX_TEXT = 1024
MOST_WARNINGS = 16
_SERVICE = re.compile(r"(?!agent-supervisor)[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,199}\.service")


def parse(document: bytes) -> HandlerManifest:
    """Raises InputError that names the key."""
    found = decode(document, Any)
    if not isinstance(found, list) or not found:
        raise InputError("document", "is no list with a manifest in it")
    if not isinstance(found[0], dict):
        raise InputError("[0]", "is no object")
    warnings: list[str] = []
    said = found[0].get("handlerManifest")
    if not isinstance(said, dict):
        raise InputError("[0].handlerManifest", "is missing or no object")
    fields: dict[str, Any] = {name: _command(said.get(f"{name}Command"), f"{name}Command") for name in COMMANDS}
    fields |= {field: _flag(said, key, warnings) for key, field in FLAGS.items()}
    fields["installs_after_update"] = _installs(said.get("updateMode"), warnings)
    limits = _section(found[0], "resourceLimits", warnings)
    fields |= {field: _limit(limits, key, most, warnings) for key, (field, most) in LIMITS.items()}
    fields["services"] = tuple(_services(limits.get("services"), warnings))
    signing = _section(found[0], "signingInfo", warnings)
    fields |= {field: _signing(signing, key, warnings) for key, field in SIGNING.items()}
    return fitting(HandlerManifest(**fields, warnings=tuple(dict.fromkeys(warnings))[:MOST_WARNINGS]))


def _command(value: Any, key: str) -> str:
    """A command line below the handler's folder."""
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise InputError(f"handlerManifest.{key}", "is no command line: a text without NUL is expected")
    return value.lstrip("/")


def _flag(said: dict[str, Any], key: str, warnings: list[str]) -> bool:
    match said.get(key, False):
        case bool(flag):
            return flag
        case str(text) if text.lower() in ("true", "false"):
            return text.lower() == "true"
    warnings.append(f"handlerManifest.{key} is neither true nor false: it counts as false")
    return False


def _installs(mode: Any, warnings: list[str]) -> bool:
    if mode is None or isinstance(mode, str):
        return mode is None or mode.lower() == UPDATE_WITH_INSTALL
    warnings.append("handlerManifest.updateMode is no text: it counts as UpdateWithInstall")
    return True


def _section(found: dict[str, Any], key: str, warnings: list[str]) -> dict[str, Any]:
    section = found.get(key)
    if isinstance(section, dict):
        return section
    if section is not None:
        warnings.append(f"{key} is no object: it counts as missing")
    return {}


def _limit(limits: dict[str, Any], key: str, most: int, warnings: list[str]) -> int | None:
    value = limits.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= most:
        return int(value)
    if value is not None:
        warnings.append(f"resourceLimits.{key} is no number from 1 to {most}: it counts as no limit")
    return None


def _services(said: Any, warnings: list[str]) -> Iterator[ServiceLimits]:
    """Those that are named as services are, each once; memory is a matter of the handler's slice alone."""
    if said is not None and not isinstance(said, list):
        warnings.append("resourceLimits.services is no list: it counts as empty")
        return
    known: set[str] = set()
    if len(said or ()) > MOST_SERVICES:
        warnings.append(f"resourceLimits.services has more than {MOST_SERVICES}: the rest counts as not there")
    for service in (said or ())[:MOST_SERVICES]:
        name = service.get("name") if isinstance(service, dict) else None
        unit = f"{name.removesuffix('.service')}.service" if isinstance(name, str) else ""
        if unit in known or not _SERVICE.fullmatch(unit):
            problem = "resourceLimits.services has one whose name can't be a service's, is ours, or is there twice"
            warnings += [] if problem in warnings else [problem]
            continue
        known.add(unit)
        yield ServiceLimits(unit, _limit(service, "cpuQuotaPercentage", 100_000, warnings))


def _signing(signing: dict[str, Any], key: str, warnings: list[str]) -> str:
    value = signing.get(key)
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        return value
    if value is not None:
        warnings.append(f"signingInfo.{key} is no text of at most {MAX_TEXT} characters: it counts as missing")
    return ""
