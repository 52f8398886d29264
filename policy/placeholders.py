# SPDX-License-Identifier: Apache-2.0
"""Owns the names in a profile's paths that only an installation can fill in: `${python}`, `${project}`; and those that
the supervisor fills in itself: `${lib}`, the folder of Lib.Dir, and `${notify}`, where systemd listens to it.

Used by the loader; reads nothing but the links that lead to the interpreter.
"""

# pathlib loads urllib, which the resident root processes do without.
# ruff: noqa: PTH100, PTH115, PTH118, PTH120

import os
from collections.abc import Mapping, Sequence

import msgspec

from ipc.errors import ConfigError
from policy.profile import PathGrant

LIB, NOTIFY = "${lib}", "${notify}"
# Where systemd has that socket, unless it says otherwise in NOTIFY_SOCKET.
NOTIFY_SOCKET = "/run/systemd/notify"
_LONGEST_CHAIN = 16


def installation(prefix: str, executable: str, stdlib_file: str, policy_folder: str) -> dict[str, tuple[str, ...]]:
    """What the placeholders stand for: all that an interpreter reads to start, and the folder of our packages.

    `prefix` is sys.prefix, `executable` sys.executable, `stdlib_file` the file of a module of the standard library."""
    stdlib = os.path.dirname(os.path.abspath(stdlib_file))
    links = _links_to(executable)
    # A shared libpython lies beside the standard library, except where the distribution keeps both in /usr/lib.
    libraries = os.path.dirname(stdlib)
    own = (libraries,) if not libraries.startswith("/usr/lib") else ()
    environment = (prefix,) if prefix not in {"/usr", "/"} else ()
    project = os.path.dirname(os.path.abspath(policy_folder))
    return {
        "${python}": (*environment, *own, stdlib, *links),
        # The folder itself, not the packages in it: an interpreter lists it to find them.
        "${project}": (project,),
    }


def expand(grants: Sequence[PathGrant], places: Mapping[str, tuple[str, ...]], source: str) -> tuple[PathGrant, ...]:
    """`grants` with every placeholder replaced; a path below another of the same access, for as long, is left out.

    LIB and NOTIFY may stay as they are. ConfigError, naming `source`, for others that nothing is known of."""
    places = {LIB: (LIB,), NOTIFY: (NOTIFY,), **places}
    full: dict[str, PathGrant] = {}
    for grant in grants:
        if "$" in grant.path and grant.path not in places:
            raise ConfigError(source, f"nothing is known of {grant.path}")
        for path in places.get(grant.path, (grant.path,)):
            full.setdefault(path, msgspec.structs.replace(grant, path=path))
    return tuple(
        grant
        for grant in full.values()
        if not any(
            grant.path.startswith(f"{above.path.rstrip('/')}/")
            and grant.access == above.access
            and above.until in {"end", grant.until}
            for above in full.values()
            if above is not grant
        )
    )


def _links_to(executable: str) -> tuple[str, ...]:
    """`executable` and every link on the way to the real file."""
    chain = [executable]
    while len(chain) < _LONGEST_CHAIN and os.path.islink(chain[-1]):  # noqa: PTH114
        chain.append(os.path.normpath(os.path.join(os.path.dirname(chain[-1]), os.readlink(chain[-1]))))
    return (*chain, os.path.realpath(executable))
