# SPDX-License-Identifier: Apache-2.0
"""Owns the shapes of other machines than this one, as far as a policy has grants for them; puts a lab's files so.

Runs in the test. A shape is undone with the scenario that asked for it.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.least.place import Place

# Where each architecture's programs say that their loader is.
LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")


def with_a_real_lib(place: Place) -> None:
    """A machine whose /lib is a folder: its C library is there, and nothing of systemd's."""
    libraries = next(place.at("/usr/lib").glob("*-linux-gnu")).name
    place.folder("/lib")
    for name in _names(place, "/usr/lib", {"systemd", libraries}):
        place.link(f"/lib/{name}", f"/usr/lib/{name}")
    place.folder(f"/lib/{libraries}")
    for name in _names(place, f"/usr/lib/{libraries}", {"libc.so.6"}):
        place.link(f"/lib/{libraries}/{name}", f"/usr/lib/{libraries}/{name}")
    place.copy(f"/usr/lib/{libraries}/libc.so.6", f"/lib/{libraries}/libc.so.6")
    place.remove(f"/usr/lib/{libraries}/libc.so.6")


def with_a_real_lib64(place: Place) -> None:
    """A machine whose /lib64 is a folder: the program loader is there."""
    loader = next((path for path in LOADERS if place.at(path.replace("/lib", "/usr/lib", 1)).exists()), LOADERS[0])
    folder = str(Path(loader).parent)
    place.folder(folder)
    place.copy(loader.replace("/lib", "/usr/lib", 1), loader)
    place.remove(loader.replace("/lib", "/usr/lib", 1))


def with_a_real_usr_lib64(place: Place) -> None:
    """A machine that keeps libraries in /usr/lib64, which is no link: one that every Python needs is there."""
    libraries = next(place.at("/usr/lib").glob("*-linux-gnu"))
    name = "libexpat.so.1"
    place.copy(f"/usr/lib/{libraries.name}/{name}", f"/usr/lib64/{name}")
    place.link(f"/usr/lib/{libraries.name}/{name}", f"/usr/lib64/{name}")


def with_programs_in(place: Place, folder: str, names: Sequence[str]) -> None:
    """A machine whose `folder`, /bin or /sbin, is one of its own and has these programs, which /usr has not."""
    place.folder(folder)
    for name in _names(place, f"/usr{folder}", set(names)):
        place.link(f"{folder}/{name}", f"/usr{folder}/{name}")
    for name in names:
        there = next(path for path in (f"/usr{folder}/{name}", f"/usr/sbin/{name}") if place.at(path).exists())
        place.copy(there, f"{folder}/{name}")
        place.remove(there)


def _names(place: Place, folder: str, but: set[str]) -> list[str]:
    return sorted(entry.name for entry in place.at(folder).iterdir() if entry.name not in but)
