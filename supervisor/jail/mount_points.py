# SPDX-License-Identifier: Apache-2.0
"""Owns the question in which mount a path lies, and whether other mount namespaces hear of what is mounted there."""


def mount_point(path: str) -> tuple[str, bool]:
    """Where the mount begins that `path`, absolute and through no link, lies in, and whether it is a shared one."""
    found, is_shared = "", False
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            words = line.split(" - ")[0].split()
            point = words[4]
            # Later lines lie on top of earlier ones.
            if f"{path}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(found):
                found, is_shared = point, any(word.startswith("shared:") for word in words[6:])
    return found, is_shared
