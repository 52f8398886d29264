# SPDX-License-Identifier: Apache-2.0
"""Cgroups for real, on whatever hierarchies this machine has: each test works below a group of its own."""

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from supervisor.jail import cgroup, hierarchies, syscalls
from supervisor.jail.cgroup import Tree
from supervisor.jail.control_files import read, try_write, write
from tests.jail.forked import End, attempt, in_child, until
from tests.jail.profiles import LIMITS

pytestmark = pytest.mark.root
MIB = 1 << 20
BORROWED = frozenset({"hugetlb"})


def own() -> list[hierarchies.Hierarchy]:
    """The hierarchies that the jail may use."""
    found = hierarchies.parse(read("/proc/self/cgroup"), read("/proc/self/mountinfo"))
    return [each for each in found if each.version == 2 or each.controllers & {"memory", "pids", "cpu", "cpuacct"}]


@pytest.fixture
def nest() -> Iterator[list[Path]]:
    """A folder of this test's own in every hierarchy, below the group that the tests run in."""
    folders = [Path(hierarchy.folder) / f"jail-test-{os.getpid()}" for hierarchy in own()]
    for folder in folders:
        folder.mkdir()
    yield folders
    for folder in folders:
        for place, _, _ in os.walk(folder, topdown=False):
            for pid in read(f"{place}/cgroup.procs").split():
                os.kill(int(pid), signal.SIGKILL)
            assert until(lambda place=place: _removed(Path(place))), place  # type: ignore[misc]


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True


def as_spawner(nest: list[Path], act: Callable[[Tree], object]) -> End:
    """Run `act` in a child that lives in the nest and has prepared its tree there."""

    def spawner() -> object:
        for folder in nest:
            write(f"{folder}/cgroup.procs", "0")
        tree = cgroup.prepare()
        try:
            return act(tree)
        finally:
            until(lambda: _swept(tree))

    return in_child(spawner)


def _swept(tree: Tree) -> bool:
    """A process that was killed a moment ago may still keep its group: then once more."""
    tree.sweep()
    return tree.remove()


def allocate(mib: int) -> int:
    return len(bytearray(b"x") * (mib * MIB)) // MIB


def limited(tree: Tree, name: str) -> bool:
    return name not in tree.missing


def test_a_group_holds_what_joined_it_and_its_limits(nest: list[Path]) -> None:
    def act(tree: Tree) -> list[object]:
        group = tree.create("probe.0", LIMITS)

        def member() -> list[object]:
            group.join()
            lines = [line for line in read("/proc/self/cgroup").splitlines() if "/workers/probe.0" in line]
            return [len(lines), os.getpid() in group.pids(), group.usage().memory_bytes > 0]

        inside = in_child(member).value
        texts = [
            read(f"{place.folder}/{file}").split() == value.split()
            for place in group.places
            for controller in place.controllers
            for file, value in cgroup.limit_files(place.version, controller, LIMITS)
            if Path(f"{place.folder}/{file}").exists()
        ]
        return [inside, len(group.places), texts, list(group.pids()), group.remove(), list(tree.missing)]

    (joined, seen, counted), places, texts, left, removed, missing = as_spawner(nest, act).value
    assert joined == places > 0
    assert seen
    assert counted is ("memory-limit" not in missing)
    assert texts
    assert all(texts)
    assert (left, removed) == ([], True)


def test_memory_beyond_the_limit_kills_and_below_it_does_not(nest: list[Path]) -> None:
    def act(tree: Tree) -> list[object]:
        if not limited(tree, "memory-limit"):
            return []
        group = tree.create("probe.0", LIMITS)

        def member(mib: int) -> int:
            group.join()
            return allocate(mib)

        small, large = in_child(lambda: member(16)), in_child(lambda: member(2 * LIMITS.memory_mib))
        return [small.value, large.signal, group.usage().peak_bytes <= LIMITS.memory_mib * MIB]

    result = as_spawner(nest, act).value
    if result == []:
        pytest.skip("no memory controller for this process")
    assert result == [16, signal.SIGKILL, True]
    assert in_child(lambda: allocate(2 * LIMITS.memory_mib)).value == 2 * LIMITS.memory_mib


def test_processes_beyond_the_limit_are_not_made(nest: list[Path]) -> None:
    def children(count: int) -> int:
        return sum(attempt(_sleeping_child) == 0 for _ in range(count))

    def act(tree: Tree) -> list[object]:
        if not limited(tree, "pids-limit"):
            return []
        group = tree.create("probe.0", LIMITS)

        def member() -> int:
            group.join()
            return children(LIMITS.pids + 4)

        made = in_child(member).value
        group.kill()
        return [made]

    result = as_spawner(nest, act).value
    if result == []:
        pytest.skip("no pids controller for this process")
    assert result == [LIMITS.pids - 1]


def _sleeping_child() -> None:
    if os.fork() == 0:
        # Whoever waits for the other end of a pipe is not to wait for this process.
        os.closerange(0, 256)
        signal.pause()


def test_killing_ends_the_whole_group_and_nobody_else(nest: list[Path]) -> None:
    def act(tree: Tree) -> list[object]:
        group, other = tree.create("probe.0", LIMITS), tree.create("other.0", LIMITS)
        ready, told = os.pipe()

        def family(home: cgroup.Group) -> int:
            pid = os.fork()
            if pid == 0:
                home.join()
                if os.fork() == 0:
                    os.setsid()
                os.write(told, b"x")
                os.closerange(0, 256)
                signal.pause()
            return pid

        first, spared = family(group), family(other)
        for _ in range(4):
            os.read(ready, 1)
        os.close(ready)
        group.kill()
        ended = os.WTERMSIG(os.waitpid(first, 0)[1])
        empty = until(lambda: not group.pids())
        alive = attempt(lambda: os.kill(spared, 0))
        other.kill()
        os.waitpid(spared, 0)
        return [ended, empty, alive, group.remove(5.0), until(other.remove)]

    assert as_spawner(nest, act).value == [signal.SIGKILL, True, 0, True, True]


def test_killing_works_without_the_kernels_own_way(nest: list[Path]) -> None:
    """As on version 1 and before Linux 5.14: the group without its version 2 folder."""

    def act(tree: Tree) -> list[object]:
        group = tree.create("probe.0", LIMITS)
        old = cgroup.Group(tuple(place for place in group.places if place.version == 1), ())
        if not old.places:
            return []
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            group.join()
            os.write(told, b"x")
            signal.pause()
        os.read(ready, 1)
        old.kill()
        return [os.WTERMSIG(os.waitpid(pid, 0)[1])]

    assert as_spawner(nest, act).value in ([signal.SIGKILL], [])


def test_a_child_is_born_into_the_version_2_group(nest: list[Path]) -> None:
    def act(tree: Tree) -> list[object]:
        group = tree.create("probe.0", LIMITS)
        if group.unified is None:
            return []
        folder = os.open(group.unified, os.O_RDONLY | os.O_DIRECTORY)

        def member() -> list[object]:
            group.join(born_in_unified=True)
            got: list[int] = []
            signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
            signal.raise_signal(signal.SIGUSR1)
            places = [line for line in read("/proc/self/cgroup").splitlines() if line.endswith("/workers/probe.0")]
            return [len(places) == len(group.places), got]

        return [in_child(member, lambda: syscalls.fork_into(folder)).value]

    assert as_spawner(nest, act).value in ([[True, [signal.SIGUSR1]]], [])


def test_what_an_earlier_life_left_is_swept(nest: list[Path]) -> None:
    def act(tree: Tree) -> list[object]:
        group = tree.create("probe.0", LIMITS)
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            group.join()
            os.write(told, b"x")
            signal.pause()
        os.read(ready, 1)
        again = cgroup.prepare()
        again.sweep()
        ended = os.WTERMSIG(os.waitpid(pid, 0)[1])
        again.sweep()
        return [ended, [left.pids() for left in again.groups()], again.places == tree.places]

    assert as_spawner(nest, act).value == [signal.SIGKILL, [], True]


def test_processor_time_is_counted_and_limited(nest: list[Path]) -> None:
    def act(tree: Tree) -> list[object]:
        group = tree.create("probe.0", LIMITS)

        def member() -> None:
            group.join()
            while resource.getrusage(resource.RUSAGE_SELF).ru_utime < 0.05:
                pass

        in_child(member)
        return [group.usage().cpu_us >= 40_000]

    assert as_spawner(nest, act).value == [True]


def test_all_workers_together_weigh_as_much_as_the_heaviest_while_it_is_there(nest: list[Path]) -> None:
    """Else it would be ahead of other workers only, and behind whoever is beside them."""
    files = {1: "cpu.shares", 2: "cpu.weight"}

    def act(tree: Tree) -> list[object]:
        places = [place for place in tree.places if "cpu" in place.controllers]

        def weights() -> set[int]:
            return {int(read(f"{place.folder}/{files[place.version]}")) for place in places}

        usual = weights()
        first = tree.create("probe.0", msgspec.structs.replace(LIMITS, cpu_weight=1000))
        second = tree.create("probe.1", msgspec.structs.replace(LIMITS, cpu_weight=300))
        tree.create("probe.2", LIMITS).remove()
        both = weights()
        first.remove()
        lighter = weights()
        second.remove()
        return [sorted(each) for each in (usual, both, lighter, weights())]

    usual, both, lighter, after = as_spawner(nest, act).value
    if not usual:
        pytest.skip("nobody hands out the cpu controller here")
    assert (both, lighter, after) == ([usual[0] * 10], [usual[0] * 3], usual)


def test_version_2_hands_controllers_out_from_a_leaf_of_its_own(nest: list[Path]) -> None:
    """With whatever controller version 2 has here; the group with processes in it must move them into `main/`."""
    unified = next((Path(hierarchy.folder) for hierarchy in own() if hierarchy.version == 2), None)
    if unified is None or not set(read(f"{unified}/cgroup.controllers").split()) >= BORROWED:
        pytest.skip("version 2 has no controller to try it with")
    was_on = set(read(f"{unified}/cgroup.subtree_control").split()) >= BORROWED
    if not was_on and not try_write(f"{unified}/cgroup.subtree_control", "+hugetlb"):
        pytest.skip("this process may not hand out controllers")
    home = next(folder for folder in nest if folder.parent == unified)

    def spawner() -> list[object]:
        write(f"{home}/cgroup.procs", "0")
        tree = cgroup.prepare(wanted=BORROWED)
        again = cgroup.prepare(wanted=BORROWED)
        line = next(line for line in read("/proc/self/cgroup").splitlines() if line.startswith("0::"))
        group = again.create("probe.0", LIMITS)
        offered = read(f"{group.unified}/cgroup.controllers").split()
        group.remove()
        return [line.endswith(f"{home.name}/main"), tree.places == again.places, offered, again.remove()]

    try:
        assert in_child(spawner).value == [True, True, ["hugetlb"], True]
    finally:
        assert until(lambda: _removed(home / "main"))
        assert until(lambda: _removed(home))
        if not was_on:
            write(f"{unified}/cgroup.subtree_control", "-hugetlb")


def test_a_missing_folder_is_an_error_of_the_kernel() -> None:
    assert attempt(lambda: write("/proc/self/nothing", "0")) == errno.ENOENT
    assert read("/proc/self/nothing") == ""
