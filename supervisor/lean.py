# SPDX-License-Identifier: Apache-2.0
"""Owns what makes the resident processes start quick and small; imported first by both, before anything else.

msgspec takes typing_extensions where it finds it, and that takes inspect and ast: 1.5 MiB and 10 ms for nothing.
What imports make is next to never garbage: the collector looks it over seven times less often than it would.
"""

import gc
import sys
import types
from importlib import import_module

gc.set_threshold(5000)

sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]


def import_pathlib() -> None:
    """Load pathlib without urllib.parse, of which it takes one function, for `as_uri`, that nobody here calls: 0.4 MiB.

    For the spawner, whose forks use pathlib; whoever wants urllib.parse later gets the real one."""
    if "pathlib" in sys.modules or "urllib.parse" in sys.modules:
        return
    stand_in = types.ModuleType("urllib.parse")
    stand_in.quote_from_bytes = None  # type: ignore[attr-defined]
    sys.modules["urllib.parse"] = stand_in
    try:
        import_module("pathlib")
    finally:
        del sys.modules["urllib.parse"]
