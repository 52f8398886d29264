# SPDX-License-Identifier: Apache-2.0
"""Owns what makes an interpreter's start quick and small; imported first by the resident processes and who is exec'd.

msgspec takes typing_extensions where it finds it, and that takes inspect and ast: 1.5 MiB and 10 ms for nothing.
"""

import gc
import os
import sys
import types
from collections.abc import Iterable, Mapping
from importlib import import_module

# What imports make is next to never garbage: until all is loaded the collector only looks it over in vain.
WHILE_LOADING, AT_WORK = 100_000, 5000
gc.set_threshold(WHILE_LOADING)

sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]


def loaded() -> None:
    """All is imported that a long life needs: from now on garbage is looked for in time."""
    gc.set_threshold(AT_WORK)


def unload(names: Iterable[str]) -> None:
    """Let go of modules that nobody will need again, and so of their code, unless somebody still refers to it."""
    for name in names:
        package, _, short = name.rpartition(".")
        if sys.modules.pop(name, None) is not None:
            vars(sys.modules[package]).pop(short, None)


def import_pathlib() -> None:
    """Load pathlib without urllib.parse, of which it takes one function, for `as_uri`, that nobody here calls: 0.4 MiB.

    For the spawner, whose forks use pathlib."""
    _import_without("pathlib", {"urllib.parse": {"quote_from_bytes": None}})


def import_threading() -> None:
    """Load threading without its part in every fork, which looks for the parent's threads, 0.4 ms long.

    For the spawner, which has one thread, as its forks have."""
    register = os.register_at_fork
    del os.register_at_fork
    try:
        import_module("threading")
    finally:
        os.register_at_fork = register


def import_zmq() -> None:
    """Load pyzmq without what it would send Python's own objects and JSON by: nobody here does, nor ever should."""
    _import_without(
        "zmq",
        {
            "pickle": {"DEFAULT_PROTOCOL": 0},
            "zmq.utils.jsonapi": {},
            "platform": {"python_implementation": lambda: "CPython"},
        },
    )


def import_worker(name: str) -> types.ModuleType:
    """The module `name` of a worker that was exec'd, with all it takes; urllib3 without what it would look up the
    version of an HTTP/2 library by, which brings email and zipfile along: a sixth of the storage worker's start."""
    _import_without(name, {"importlib.metadata": {"version": None}})
    return sys.modules[name]


def import_dataclasses() -> None:
    """Load dataclasses, for h11, without inspect, by which they would describe themselves: 6 ms and 0.8 MiB."""
    _import_without("dataclasses", {"inspect": {"signature": lambda _: ""}})


def _import_without(name: str, stand_ins: Mapping[str, Mapping[str, object]]) -> None:
    """Import `name`, showing it stand-ins, with the attributes that it looks at, for modules not needed here.

    Whoever wants one of these later gets the real one."""
    absent = {} if name in sys.modules else {each: stand_ins[each] for each in stand_ins if each not in sys.modules}
    for missing, attributes in absent.items():
        stand_in = sys.modules[missing] = types.ModuleType(missing)
        vars(stand_in).update(attributes)
    try:
        import_module(name)
    finally:
        for missing in absent:
            del sys.modules[missing]


# Its schemas are for OpenAPI and the like, and uuid, which it brings along, asks platform for the name of this system.
_import_without(
    "msgspec",
    {
        "platform": {"system": lambda: "Linux"},
        "msgspec.inspect": {},
        "msgspec._json_schema": {"schema": None, "schema_components": None},
    },
)
