# SPDX-License-Identifier: Apache-2.0
"""Committer of sshd's settings: password authentication on or off, client alive interval (provisioning.md 6).

Root, needs sshd's folder. A drop-in file where sshd_config includes that folder in time, else an edit of sshd_config.
It must never leave a configuration that sshd refuses because of it, nor password authentication on where it was to be
off.
"""

from collections.abc import Callable
from pathlib import Path

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitSshd
from workers.committers import atomic_file
from workers.committers.commit import Workplace, serve
from workers.committers.sshd_config import SAME, global_values, includes, with_option
from workers.committers.sshd_verdict import Verdict, ask
from workers.committers.tools import Tools
from workers.companion import companion

DROP_IN = "sshd_config.d/50-agent-supervisor.conf"
# Where a distribution that keeps /etc for the administrator has its own.
VENDORS = "/usr/etc/ssh/sshd_config"
HEADER = "# Written by agent-supervisor from this machine's provisioning settings.\n"
PASSWORD_KEYWORDS = ("PasswordAuthentication", "ChallengeResponseAuthentication")
MODE = 0o644


def configure_sshd(request: CommitSshd, work: Workplace) -> str:
    """Write the settings, have sshd check them, then compare what sshd will take with what was asked for."""
    own = f"{request.paths.ssh_dir}/sshd_config"
    config = own if work.at(own).exists() or not work.at(VENDORS).exists() else VENDORS
    found = atomic_file.look(work.at(config).resolve())  # sshd follows links, too
    if found is None:
        return f"there is no {config}: nothing to configure"
    yes_or_no = "yes" if request.password_authentication else "no"
    options = dict.fromkeys(PASSWORD_KEYWORDS, yes_or_no)
    options["ClientAliveInterval"] = str(request.client_alive_interval_s)
    text = found.content.decode("utf-8", "surrogateescape")
    drop_in = f"{request.paths.ssh_dir}/{DROP_IN}"
    if includes(text, drop_in, tuple(options)) and work.at(drop_in).parent.is_dir():
        target = drop_in
        text = HEADER + "".join(f"{keyword} {value}\n" for keyword, value in options.items())
    elif config == VENDORS:
        raise CommitError(f"{VENDORS}, which is the distribution's own, includes no {drop_in}: make {own}")
    else:
        target = config
        for keyword, value in options.items():
            text = with_option(text, keyword, value)
    state, verdict = _install(work, config, target, text.encode("utf-8", "surrogateescape"))
    return "; ".join([state, *_compare(work, config, options, verdict), *_remarks(verdict)])


def _install(work: Workplace, config: str, target: str, content: bytes) -> tuple[str, Verdict]:
    """What was done, and what sshd takes from its configuration now."""
    path, main = work.at(target).resolve(), work.at(config).resolve()
    old = atomic_file.look(path)
    already = old is not None and old.content == content
    if not already:
        _put(path, old, content)
    verdict = ask(work, main)
    if verdict.refusal and not (already and target == config):
        # Whose fault it is, the state without the settings tells: sshd may refuse that, too.
        before = None if already else old
        _put_back(path, before)
        if not ask(work, main).refusal:
            raise CommitError(f"sshd refuses the settings, {target} is as it was before: {verdict.refusal}")
        _put(path, before, content)
    complaint = f"; sshd refuses its configuration, whoever made it so: {verdict.refusal}" if verdict.refusal else ""
    if already:
        return f"sshd settings were set already{complaint}", verdict
    work.wrote(target)
    return f"sshd settings written to {target}; a running sshd takes them when it is reloaded{complaint}", verdict


def _put(path: Path, old: atomic_file.Found | None, content: bytes) -> None:
    if old is None:
        atomic_file.write(path, content, MODE)
    else:
        atomic_file.rewrite(path, content)


def _put_back(path: Path, old: atomic_file.Found | None) -> None:
    if old is None:
        path.unlink()
    else:
        atomic_file.rewrite(path, old.content)


def _compare(work: Workplace, config: str, options: dict[str, str], verdict: Verdict) -> list[str]:
    """Settings that something overrides. Less than was asked for is an error, more is only said. sshd's own word
    counts; without one, what this reader of its files finds."""
    first = global_values(work.root, config, tuple(options))
    remarks = []
    for keyword, asked in options.items():
        name = SAME.get(keyword.lower(), keyword.lower())
        setting = first.get(name)
        value = verdict.values.get(name, setting.value if setting else asked)
        if value == asked:
            continue
        source = setting.source if setting and setting.value == value else "sshd"
        if keyword in PASSWORD_KEYWORDS and asked == "no":
            raise CommitError(f"{source} sets {keyword} {value} before anything else can")
        remarks.append(f"{source} keeps {keyword} {value}")
    return remarks


def _remarks(verdict: Verdict) -> list[str]:
    """Without PAM sshd looks at shadow itself, and lets nobody in whose line there is locked, not even by key."""
    return ["with UsePAM no, sshd refuses accounts without a password"] if verdict.values.get("usepam") == "no" else []


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        serve(channel, lock, {CommitSshd: configure_sshd}, Tools(ask_companion))
