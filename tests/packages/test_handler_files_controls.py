# SPDX-License-Identifier: Apache-2.0
"""What keeps a package, and handlers that rearrange their folders, from other files: each control taken away."""

from collections.abc import Iterator

import msgspec
import pytest

from ipc.messages import CarryOver, CommitFailed, Committed, Entry, PackageRefused, RemoveHandler
from tests.fabric.handler_packages import WRONGS, Package
from tests.fabric.lab import Lab
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig
from tests.packages.asked import LIB, commit, failure, place, unpack, unpacked, workers

pytestmark = pytest.mark.root

ONE, OTHER = Package("Vendor.One"), Package("Vendor.Other")
TREE, INDEX, PLACING = (f"workers.committers.handler_{name}" for name in ("tree", "index", "files"))
WEAK = (
    Mutation(TREE, "FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW", "FOLDER = os.O_RDONLY | os.O_DIRECTORY"),
    Mutation(TREE, "PLAIN = os.O_RDONLY | os.O_NOFOLLOW", "PLAIN = os.O_RDONLY"),
    Mutation(TREE, "if _mount(inner) != _mount(folder):", "if False:"),
    Mutation(INDEX, "problem = inner_path.problem(entry.path)", 'problem = ""'),
    Mutation(PLACING, "if digest.hex() != package.sha256:", "if False:"),
    Mutation("workers.unpacker.names", "if problem or path.startswith", "if path.startswith"),
)
SECRET = "only the other's\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    with workers(lab) as rig:
        yield rig


def both(lab: Lab, rig: Rig) -> None:
    """Two handlers, each with something of its own, and nothing else."""
    lab.output("sh", "-c", f"rm -rf {LIB}/* {LIB}/.[!.]*")
    place(rig, unpacked(lab, rig, ONE.zipped()), ONE.folder).last(Committed)
    lab.path(f"{LIB}/{ONE.folder}/config/0.settings").write_text(SECRET)
    lab.output("cp", "-a", f"{LIB}/{ONE.folder}", f"{LIB}/{OTHER.folder}")


def through_a_linked_folder(lab: Lab, rig: Rig) -> bool:
    """What is another handler's comes along with one that has made a link of its folder."""
    one = lab.path(f"{LIB}/{ONE.folder}")
    one.rename(one.with_name("moved"))
    one.symlink_to(OTHER.folder)
    lab.path(f"{LIB}/{OTHER.folder}/status/0.status").write_text(SECRET)
    return _carried(lab, rig, "0.status")


def through_a_linked_file(lab: Lab, rig: Rig) -> bool:
    """Or of one of the files in it."""
    lab.path(f"{LIB}/{ONE.folder}/status/0.status").symlink_to(f"../../{OTHER.folder}/config/0.settings")
    return _carried(lab, rig, "0.status")


def _carried(lab: Lab, rig: Rig, name: str) -> bool:
    new = lab.path(f"{LIB}/{ONE.name}-2.0")
    (new / "status").mkdir(parents=True)
    commit(rig, CarryOver(LIB, ONE.folder, new.name))
    found = new / "status" / name
    return found.exists() and found.read_text() == SECRET


def through_a_mount(lab: Lab, rig: Rig) -> bool:
    """What is mounted in the folder is emptied with it; a bind mount is on the same device."""
    lab.path(f"{LIB}/mounted").mkdir(exist_ok=True)
    lab.path(f"{LIB}/mounted/kept").write_text("x")
    point = f"{LIB}/{ONE.folder}/status"
    lab.output("mount", "--bind", f"{LIB}/mounted", point)
    try:
        commit(rig, RemoveHandler(LIB, ONE.folder)).last(Committed)
        return not lab.path(f"{LIB}/mounted/kept").exists()
    finally:
        there = lab.path(f"{LIB}/.{ONE.folder}.gone")
        lab.output("umount", f"{LIB}/.{ONE.folder}.gone/status" if there.exists() else point)


def by_an_odd_name(lab: Lab, rig: Rig) -> bool:
    """An unpacker in the wrong hands has a name made that shows another one."""
    made = unpacked(lab, rig, ONE.zipped())
    index = msgspec.msgpack.decode(made.entries, type=list[Entry])
    forged = [*index, Entry("z\rx", made.answer.size, 0)]
    reply = place(rig, made._replace(entries=msgspec.msgpack.encode(forged)), ONE.folder)
    return isinstance(reply.messages[-1], Committed)


def by_other_contents(lab: Lab, rig: Rig) -> bool:
    """What is laid down is what was told: not what became of it since."""
    made = unpacked(lab, rig, ONE.zipped())
    content = lab.path(made.contents).read_bytes()
    lab.path(made.contents).write_bytes(content[::-1])
    return isinstance(place(rig, made, ONE.folder).messages[-1], Committed)


def by_a_climbing_name(lab: Lab, rig: Rig) -> bool:
    """A package that the unpacker lets pass, and the committer after it."""
    return not isinstance(unpack(lab, rig, ONE.wrong("climber")).messages[-1], PackageRefused)


WAYS = (
    through_a_linked_folder,
    through_a_linked_file,
    through_a_mount,
    by_an_odd_name,
    by_other_contents,
    by_a_climbing_name,
)


def test_each_control_stops_something_that_happens_without_it(lab: Lab, rig: Rig) -> None:
    for way in WAYS:
        both(lab, rig)
        assert not way(lab, rig), way.__doc__
    with Lab() as other, workers(other, WEAK) as weak:
        for way in WAYS:
            both(other, weak)
            assert way(other, weak), way.__doc__


def test_nothing_but_lib_is_written(lab: Lab, rig: Rig) -> None:
    """By Landlock and a sealed tree, both of one line of policy. Nor is it by a package that an unpacker in the wrong
    hands lets pass."""
    folder = "/var/lib/elsewhere"
    lab.path(folder).mkdir(parents=True)
    made = unpacked(lab, rig, ONE.zipped())
    assert failure(place(rig, made, ONE.folder, lib=folder)) == f"{folder}: Permission denied"
    with Lab() as other:
        other.path(folder).mkdir()
        with workers(other, WEAK[-1:], handler_files=("${lib}", folder)) as rigged:
            for wrong in ("climber", "absolute"):
                climbing = unpacked(other, rigged, ONE.wrong(wrong))
                assert "outside of the package's folder" in failure(place(rigged, climbing, ONE.folder, lib=folder))
            place(rigged, unpacked(other, rigged, ONE.zipped()), ONE.folder, lib=folder).last(Committed)
        assert other.path(f"{folder}/{ONE.folder}/bin/handler").exists()


def test_where_what_is_kept_can_not_be_moved_all_stays_as_it_was(lab: Lab, rig: Rig) -> None:
    both(lab, rig)
    folder, made = lab.path(f"{LIB}/{ONE.folder}"), unpacked(lab, rig, ONE.zipped())
    (folder / "former").touch()
    lab.output("chattr", "+i", f"{folder_in(ONE)}/status")
    try:
        told = failure(place(rig, made, ONE.folder, ("config", "status")))
        assert told.endswith("is as it was, since what is kept of it can't be moved: status: Operation not permitted")
        assert (folder / "former").exists()
        assert (folder / "config" / "0.settings").read_text() == SECRET
        assert sorted(path.name for path in folder.parent.iterdir()) == [ONE.folder, OTHER.folder]
        commit(rig, RemoveHandler(LIB, OTHER.folder)).last(Committed)
    finally:
        lab.output("chattr", "-R", "-i", LIB)
    place(rig, unpacked(lab, rig, ONE.zipped()), ONE.folder, ("config", "status")).last(Committed)
    assert (folder / "config" / "0.settings").read_text() == SECRET
    assert not (folder / "former").exists()


def test_what_a_killed_one_had_moved_goes_back_too(lab: Lab, rig: Rig) -> None:
    both(lab, rig)
    folder, old = f"{LIB}/{ONE.folder}", f"{LIB}/.{ONE.folder}.old"
    lab.output("chattr", "+i", f"{folder}/status")
    lab.output("sh", "-ec", f"mv {folder} {old}; mkdir {folder}; mv {old}/config {folder}")
    try:
        commit(rig, RemoveHandler(LIB, OTHER.folder)).last(Committed)
        assert [path.name for path in lab.path(LIB).iterdir()] == [ONE.folder]
        assert lab.path(f"{folder}/config/0.settings").read_text() == SECRET
        assert lab.path(f"{folder}/bin/handler").exists()
    finally:
        lab.output("chattr", "-R", "-i", LIB)


def test_what_can_not_be_removed_is_told_with_its_reason_and_stops_nobody_else(lab: Lab, rig: Rig) -> None:
    both(lab, rig)
    gone = f".{ONE.folder}.gone"
    lab.output("chattr", "+i", f"{folder_in(ONE)}/config")
    why = f"1 parts stay, the first is {gone}/config/0.settings: Operation not permitted"
    try:
        done = commit(rig, RemoveHandler(LIB, ONE.folder)).last(Committed)
        assert (done.fact, [(each.folder, each.why) for each in done.aside]) == (why, [(ONE.folder, why)])
        done = commit(rig, RemoveHandler(LIB, OTHER.folder)).last(Committed)
        assert done.fact == f"removed; {gone} is left over: {why}"
        assert [each.folder for each in done.aside] == [ONE.folder]
    finally:
        lab.output("chattr", "-R", "-i", LIB)
    assert commit(rig, RemoveHandler(LIB, ONE.folder)).last(Committed).aside == ()
    assert not lab.path(f"{LIB}/{gone}").exists()


def folder_in(package: Package) -> str:
    return f"{LIB}/{package.folder}"


def test_a_full_disk_leaves_the_former_folder_as_it_was() -> None:
    large = Package(ONE.name, files={"large": bytes(range(256)) * 8000, "x": b""})
    with Lab() as lab:
        lab.path(LIB).mkdir(parents=True)
        lab.output("mount", "-t", "tmpfs", "-o", "size=1m", "small", LIB)
        with workers(lab) as rig:
            both(lab, rig)
            before = lab.output("find", LIB, "-type", "f")
            reply = place(rig, unpacked(lab, rig, large.zipped()), ONE.folder, ("config",))
            assert failure(reply).startswith("large: No space left on device")
            assert not reply.last(CommitFailed).changed
            assert lab.output("find", LIB, "-type", "f") == before
            lab.output("mount", "-o", "remount,size=8m", LIB)
            place(rig, unpacked(lab, rig, large.zipped()), ONE.folder, ("config",)).last(Committed)
            assert lab.path(f"{LIB}/{ONE.folder}/config/0.settings").read_text() == SECRET


@pytest.mark.parametrize("how", sorted(set(WRONGS) - {"many"}))
def test_every_wrong_package_is_refused_or_has_no_manifest(lab: Lab, rig: Rig, how: str) -> None:
    reply = unpack(lab, rig, ONE.wrong(how))
    if how == "no-manifest":
        assert reply.contents[-1][1] == b""
    else:
        assert reply.last(PackageRefused).problem
