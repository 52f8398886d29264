# SPDX-License-Identifier: Apache-2.0
"""Committer of sshd's settings: password authentication on or off, client alive interval (provisioning.md 6).

Root, needs sshd's folder. A drop-in file where sshd_config includes that folder in time, else an edit of sshd_config.
It must never leave a configuration that sshd refuses, nor password authentication on where it was to be off.
"""

from collections.abc import Callable

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitSshd
from workers.committers import atomic_file
from workers.committers.commit import Workplace, serve
from workers.committers.sshd_config import SAME, global_values, includes, with_option

DROP_IN = "sshd_config.d/50-agent-supervisor.conf"
HEADER = "# Written by agent-supervisor from this machine's provisioning settings.\n"
PASSWORD_KEYWORDS = ("PasswordAuthentication", "ChallengeResponseAuthentication")
MODE = 0o644


def configure_sshd(request: CommitSshd, work: Workplace) -> str:
    """Write the settings, have sshd check them, then compare what sshd will take with what was asked for."""
    config = f"{request.paths.ssh_dir}/sshd_config"
    found = atomic_file.look(work.at(config))
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
    else:
        target = config
        for keyword, value in options.items():
            text = with_option(text, keyword, value)
    written = _install(work, target, text.encode("utf-8", "surrogateescape"))
    remarks = _compare(work, config, options)
    state = f"written to {target}; a running sshd takes them when it is reloaded" if written else "were set already"
    return "; ".join([f"sshd settings {state}", *remarks])


def _install(work: Workplace, target: str, content: bytes) -> bool:
    path = work.at(target)
    old = atomic_file.look(path)
    if old is not None and old.content == content:
        return False
    # sshd's verdict counts only if it accepted the old state: without host keys, say, it refuses every configuration.
    accepted_before = _refusal(work) == ""
    if old is None:
        atomic_file.write(path, content, MODE)
    else:
        atomic_file.rewrite(path, content)
    refusal = _refusal(work) if accepted_before else ""
    if refusal:
        if old is None:
            path.unlink()
        else:
            atomic_file.rewrite(path, old.content)
        raise CommitError(f"sshd refuses the settings, {target} is as it was: {refusal}")
    work.wrote(target)
    return True


def _refusal(work: Workplace) -> str:
    """What `sshd -t` has against the configuration as it stands; empty if nothing, or if there is no sshd."""
    if work.tools.find("sshd") is None:
        return ""
    outcome = work.tools.run("sshd", "-t")
    return "" if outcome.status == 0 else outcome.output or f"status {outcome.status}"


def _compare(work: Workplace, config: str, options: dict[str, str]) -> list[str]:
    """Settings that some earlier file overrides. Less than was asked for is an error, more is only said."""
    effective = global_values(work.root, config, tuple(options))
    remarks = []
    for keyword, asked in options.items():
        setting = effective.get(SAME.get(keyword.lower(), keyword.lower()))
        if setting is None or setting.value == asked:
            continue
        if keyword in PASSWORD_KEYWORDS and asked == "no":
            raise CommitError(f"{setting.source} sets {keyword} {setting.value} before anything else can")
        remarks.append(f"{setting.source} keeps {keyword} {setting.value}")
    return remarks


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {CommitSshd: configure_sshd})
