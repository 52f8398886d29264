# SPDX-License-Identifier: Apache-2.0
"""Owns what is known beforehand of the oracle's run, as data: requests, rules never met, intended differences.

Every entry is held against the run: one that is not, or no longer, true fails it.
"""

import re
from dataclasses import dataclass

_HOST, _PLUGIN, _METADATA = "http://168.63.129.16", "http://168.63.129.16:32526", "http://169.254.169.254"
_PART = re.escape(_HOST) + r"/machine/[^/?]+/[^/?]+\?comp="

# Every kind of request that the distribution's agent makes until its telemetry has begun.
EMULATED = {
    "versions": re.compile(re.escape(f"GET {_HOST}/?comp=versions")),
    "goal state": re.compile(re.escape(f"GET {_HOST}/machine/?comp=goalstate")),
    "hosting environment": re.compile(f"GET {_PART}config&type=hostingEnvironmentConfig&incarnation=1"),
    "shared config": re.compile(f"GET {_PART}config&type=sharedConfig&incarnation=1"),
    "certificates": re.compile(f"GET {_PART}certificates&incarnation=1"),
    "extensions config": re.compile(f"GET {_PART}config&type=extensionsConfig&incarnation=1"),
    "health": re.compile(re.escape(f"POST {_HOST}/machine?comp=health")),
    "telemetry": re.compile(re.escape(f"POST {_HOST}/machine?comp=telemetrydata")),
    "health service": re.compile(re.escape(f"POST {_HOST}/HealthService")),
    "plugin: vmSettings": re.compile(re.escape(f"GET {_PLUGIN}/vmSettings")),
    "plugin: versions": re.compile(re.escape(f"GET {_PLUGIN}/versions")),
    "plugin: health": re.compile(re.escape(f"GET {_PLUGIN}/health")),
    "plugin: status": re.compile(re.escape(f"PUT {_PLUGIN}/status")),
    "instance metadata": re.compile(
        re.escape(f"GET {_METADATA}/metadata/instance") + r"(/compute)?\?api-version=[\d-]+"
    ),
}
# Those that this emulation lacks, and refuses aloud: none of them.
NOT_EMULATED: dict[str, re.Pattern[str]] = {}
REQUESTS = EMULATED | NOT_EMULATED


@dataclass(frozen=True)
class Difference:
    """Where the two agents differ on purpose: what each does, and why ours does otherwise. With `package`, it is what
    that distribution has added to its agent; others needn't differ."""

    theirs: str
    ours: str
    why: str
    package: str = ""


_OTHERS = "ours leaves to nobody but root what no other account has to read"
DIFFERENCES: dict[str, Difference] = {
    "passwd: shell": Difference(
        "/bin/bash",
        "/bin/sh",
        "Debian has added bash to its agent; ours, as the agent upstream, takes what the image says in "
        "/etc/default/useradd",
        package="waagent",
    ),
    "host name: file": Difference(
        "{host_name}", "{host_name}\n", "hostname(5) is a line: tools append to a file that does not end in one"
    ),
    "authorized_keys: mode and owner": Difference(
        "-rw-r--r-- azureuser:azureuser", "-rw------- azureuser:azureuser", "as sshd's manual recommends it"
    ),
    "ovf-env.xml: mode and owner": Difference(
        "-r-------- root:root", "-rw------- root:root", "theirs is 0644 until its second process takes that back"
    ),
    "CustomData: mode and owner": Difference("-rw-r--r-- root:root", "-rw------- root:root", _OTHERS),
    "marker: mode and owner": Difference("-rw-r--r-- root:root", "-rw------- root:root", _OTHERS),
    "log: mode and owner": Difference("-rw-r--r-- root:root", "-rw------- root:root", _OTHERS),
    "sshd: KbdInteractiveAuthentication": Difference(
        "no",
        "yes",
        "theirs writes the matter's old name below the image's line with the new one, which then counts; ours writes "
        "both in a file that is read first",
    ),
}
