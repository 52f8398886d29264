# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor policy show --extension NAME`: what comes of all rules for one handler, and of which of them.

The ruling is the agent's own code's. It asks no agent: what it tells is what one that starts now would do.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import get_args

import msgspec

from ipc.errors import ConfigError
from ipc.messages import ExtensionPolicyFile, ExtensionRule, HandlerLimits, HandlerManifest, Outbound, WireGrant
from ipc.messages.extension_rules import HandlerClass, HandlerVerb
from ipc.messages.waagent_policy import MOST_POLICY_BYTES
from policy import extension_rules
from policy.extensions import matching, treatment
from policy.grants import told as grant_told
from policy.in_force import InForce
from policy.loosened import ALLOWING, by_file
from policy.rule_lines import rule_lines
from supervisor import options as settings
from supervisor.cli.json_lines import key_lines
from supervisor.cli.policy import EXIT_WELL, chosen_policy, overrides_in
from supervisor.cli.printable import printable
from supervisor.config import Config, load
from supervisor.extensions import naming
from supervisor.extensions.gates import Gates
from supervisor.extensions.ruling import Ruling, Waagent, within
from supervisor.layout import Layout

VERBS: tuple[HandlerVerb, ...] = get_args(HandlerVerb)
READER = (sys.executable, "-I", "-m", "workers.parser.extension_policy")
NOBODY, PATIENCE_S = 65534, 10
WIDEST = 100


class Source(msgspec.Struct, frozen=True):
    """Where something comes from: a file and a line of it, counted from 1, 0 where that is not known."""

    file: str
    line: int = 0

    @property
    def text(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class ShownRule(msgspec.Struct, frozen=True):
    """A rule that is about the handler: where it stands, and where each of its keys does."""

    name: str
    at: Source
    says: str
    why: str
    keys: dict[str, Source]


class Operation(msgspec.Struct, frozen=True):
    """Whether it is carried out; else the code and the text that the host is told."""

    verb: HandlerVerb
    allowed: bool
    code: int = 0
    why: str = ""


class ShownGrant(msgspec.Struct, frozen=True):
    """What may be asked of the WireServer, from which cgroup, and which file says so."""

    text: str
    cgroup: str
    at: Source


class WaagentFile(msgspec.Struct, frozen=True):
    """waagent's policy file: whether it counts at all, is there, can't be used, and which of its lines are about this
    handler."""

    path: str
    is_asked: bool
    is_there: bool = False
    problem: str = ""
    lines: dict[str, int] = {}


class Effective(msgspec.Struct, frozen=True):
    """All that comes of it for one handler. `sources`: by key of a rule, or limit, where it was said; what is missing
    there is as shipped. `manifest_limits` are those of the version's own manifest, where that is known."""

    handler: str
    version: str
    rules: tuple[ShownRule, ...]
    operations: tuple[Operation, ...]
    handler_class: HandlerClass
    signature_required: bool
    signature_why: str
    limits: HandlerLimits
    manifest_limits: HandlerLimits
    without: tuple[str, ...]
    network: bool
    outbound: tuple[Outbound, ...] | None
    wireserver: tuple[ShownGrant, ...]
    sources: dict[str, Source]
    waagent: WaagentFile


def show(options: argparse.Namespace) -> int:
    """Carry it out, as text or JSON. ValueError for a name or version that is none, ConfigError for a file."""
    handler, version = options.extension, options.version or ""
    publisher, _, kind = handler.rpartition(".")
    if not publisher or not kind:
        raise ValueError(f"{handler} has no publisher: expected PUBLISHER.TYPE, such as Contoso.Monitor")
    if problem := naming.problem_of_name(handler):
        raise ValueError(problem)
    if version and not naming.is_version(version):
        raise ValueError(f"{version} is no version: up to four numbers with dots between them are expected")
    policy, overrides, config = chosen_policy(options), overrides_in(options.policy_dir), _config(options.config)
    if not config[settings.ALLOW_LOOSENING]:
        _refuse_loosened(policy, overrides, options.config)
    shown = effective(handler, version, policy, overrides, config)
    if options.json:
        print(json.dumps(msgspec.to_builtins(shown)))
        return EXIT_WELL
    from supervisor.cli.policy_extension_text import lines

    columns = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    print("\n".join(printable(line) for line in lines(shown, columns)))
    return EXIT_WELL


def _refuse_loosened(policy: InForce, overrides: Mapping[str, bytes], config: str) -> None:
    """ConfigError for what no start would take: what comes of it is nothing that could be shown."""
    for file, text in by_file(policy.shipped.profiles.values(), policy.shipped.groups, overrides):
        problem = f"an agent would not start with this: it loosens, which takes {ALLOWING} in {config}: {text}"
        raise ConfigError(file, problem)


def effective(handler: str, version: str, policy: InForce, overrides: Mapping[str, bytes], config: Config) -> Effective:
    """What the policy and the configuration mean for that handler."""
    waagent, shown_file = _waagent(handler, config)
    is_enabled = config[settings.EXTENSIONS_ENABLED]
    gates = Gates(policy.extensions, lambda: waagent, extensions_enabled=is_enabled)
    rulings = {verb: gates.rule(handler, version, verb) for verb in VERBS}
    ruling, said = rulings["enable"], treatment(handler, policy.extensions)
    rules = tuple(_shown(rule, policy, overrides) for rule in matching(handler, policy.extensions))
    manifest = _manifest_limits(handler, version) if version else HandlerLimits()
    return Effective(
        handler,
        version,
        rules,
        tuple(_operation(verb, each) for verb, each in rulings.items()),
        ruling.handler_class,
        ruling.signature_required,
        ruling.signature_why,
        within(ruling.limits, manifest.cpu_percent, manifest.memory_mib),
        manifest,
        ruling.without,
        ruling.network,
        said.outbound,
        tuple(_grant(grant, policy, rules) for grant in policy.wireserver if grant.handler.lower() == handler.lower()),
        _sources(said.by, rules),
        shown_file,
    )


def _config(path: str) -> Config:
    """The defaults where this machine has no such file: what an image's policy means can be asked elsewhere."""
    return Config() if path == Layout().config and not os.path.exists(path) else load(path).config


def _operation(verb: HandlerVerb, ruling: Ruling) -> Operation:
    return Operation(verb, ruling.allowed, ruling.code, ruling.why)


def _shown(rule: ExtensionRule, policy: InForce, overrides: Mapping[str, bytes]) -> ShownRule:
    in_file = [each for each in policy.extensions if each.file == rule.file]
    written = rule_lines(overrides[rule.file].decode(), len(in_file))
    own = written[in_file.index(rule)] if written is not None else None
    first = own.first if own is not None else 0
    lines = own.keys if own is not None else {}
    file = f"policy.d/{rule.file}"
    said = extension_rules.keys_of(rule)
    keys = {key: Source(file, lines.get(key, lines.get(key.partition(".")[0], first))) for key in said}
    return ShownRule(rule.name, Source(file, first), extension_rules.told(rule).partition(": ")[2], rule.why, keys)


def _sources(by: Mapping[str, ExtensionRule], rules: tuple[ShownRule, ...]) -> dict[str, Source]:
    """By key, and by single limit: those are said by several rules, maybe."""
    named = {rule.name: rule for rule in rules}
    limits = {key: source for rule in reversed(rules) for key, source in rule.keys.items() if key.startswith("limits.")}
    keys = {key.removeprefix("handler_"): rule for key, rule in by.items() if key not in {"name", "why", "file"}}
    return limits | {key: named[rule.name].keys[key] for key, rule in keys.items()}


def _grant(grant: WireGrant, policy: InForce, rules: tuple[ShownRule, ...]) -> ShownGrant:
    text = grant_told(grant)
    own = next((rule.keys["wireserver"] for rule in rules if "wireserver" in rule.keys), None)
    files = [file for file, change in policy.changes if change.what == text]
    return ShownGrant(text, grant.cgroup, own or Source(f"policy.d/{files[0]}" if files else "policy.d"))


def _manifest_limits(handler: str, version: str) -> HandlerLimits:
    """Those of a version that is laid down here; none where it is not."""
    path = f"{Layout().state}/handlers/{naming.folder_name(handler, version)}"
    try:
        with open(path, "rb") as file:
            manifest = msgspec.msgpack.decode(file.read(), type=HandlerManifest)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return HandlerLimits()
    return HandlerLimits(manifest.cpu_percent, manifest.memory_mib)


def _waagent(handler: str, config: Config) -> tuple[Waagent, WaagentFile]:
    """What the file says now, as the agent takes it, and as it is shown."""
    path = config[settings.POLICY_FILE]
    if not config[settings.DEBUG_EXTENSION_POLICY]:
        return Waagent(path), WaagentFile(path, is_asked=False)
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_POLICY_BYTES + 1)
        read = _read(content)
    except FileNotFoundError:
        return Waagent(path), WaagentFile(path, is_asked=True)
    except ConfigError as error:
        problem = error.problem
        return Waagent(path, None, problem), WaagentFile(path, is_asked=True, is_there=True, problem=problem)
    found = WaagentFile(path, is_asked=True, is_there=True, lines=_lines(content.decode(), handler))
    return Waagent(path, read), found


def _read(content: bytes) -> ExtensionPolicyFile:
    """By the parser's own code, in a process that is nobody's; ConfigError says what is wrong with it."""
    user = NOBODY if os.geteuid() == 0 else None
    done = subprocess.run(READER, input=content, capture_output=True, timeout=PATIENCE_S, check=False, user=user)
    if done.returncode:
        raise ConfigError("waagent's policy file", done.stderr.decode(errors="replace").strip()[-500:])
    return msgspec.json.decode(done.stdout, type=ExtensionPolicyFile)


def _lines(text: str, handler: str) -> dict[str, int]:
    """Where the words stand that count for this handler."""
    top = "extensionPolicies"
    found: dict[str, int] = {}
    for keys, line in key_lines(text).items():
        entry = keys[:2] == (top, "extensions") and len(keys) in {3, 4} and keys[2].lower() == handler.lower()
        if entry or keys in {(top, "allowListedExtensionsOnly"), (top, "signatureRequired")}:
            found[".".join(keys)] = line
    return found
