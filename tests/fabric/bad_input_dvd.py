# SPDX-License-Identifier: Apache-2.0
"""Owns the bad media: what may be in the drive, or not, and what must be said of it. Runs in tests."""

from collections.abc import Iterator

from tests.fabric.bad_input import IDLE_CPU_S, Case, Play, Row, meet, pass_time, provisioned, stop
from tests.fabric.media import TYPICAL_BYTES, damaged_media, make_iso
from tests.fabric.scene import MEDIUM, Wanted
from tests.fabric.udf_writer import UdfForm, make_udf
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

GROUP = "DVD"
PATIENT = QUICK.replace(b"MediaTimeout=1", b"MediaTimeout=15")
SECOND = "/dev/sr1"
LATE_S = 3.0
OVF = Wanted().ovf()
DAMAGED = damaged_media(OVF)
NO_READER = ("/dev/sr0", "UDF", "ISO9660")

# What is in the drive (None: there is no drive), and what the report must name.
MEDIA: dict[str, tuple[bytes | None, tuple[str, ...]]] = {
    "absent": (None, ("a CD or DVD drive in /dev", "there is none")),
    "empty": (b"", ("/dev/sr0", "empty")),
    "zeros": (bytes(TYPICAL_BYTES), NO_READER),
    "random bytes": (DAMAGED["random"], NO_READER),
    "not a file system": (OVF, NO_READER),
    "truncated before the anchor": (DAMAGED["truncated before the anchor"], ("/dev/sr0", "UDF")),
    "truncated in the partition": (DAMAGED["truncated in the partition"], ("/dev/sr0",)),
    "ISO9660, truncated": (DAMAGED["iso truncated"], ("/dev/sr0", "ISO9660")),
    "a descriptor's checksum wrong": (DAMAGED["wrong checksum"], ("/dev/sr0", "UDF")),
    "directory loop": (DAMAGED["directory loop"], ("/dev/sr0", "ovf-env.xml")),
    "loop of allocation descriptors": (DAMAGED["continuation loop"], ("/dev/sr0", "ovf-env.xml")),
    "loop of volume descriptors": (DAMAGED["sequence loop"], ("/dev/sr0", "UDF")),
    "loop of file versions": (DAMAGED["version loop"], ("/dev/sr0",)),
    "extent past the end": (DAMAGED["extent past the end"], ("/dev/sr0", "past")),
    "4 GiB file claimed": (DAMAGED["4 GiB claimed"], ("/dev/sr0", "ovf-env.xml", "4294967296 bytes")),
    "no ovf-env.xml": (DAMAGED["no ovf-env.xml"], ("/dev/sr0", "ovf-env.xml")),
}
FAILING = tuple(Case(GROUP, name, words) for name, (_, words) in MEDIA.items())
PIPE = Case(GROUP, "a pipe in the drive's place", ("/dev/sr0", "neither a block device nor an image file"))
BOTH_BAD = Case(GROUP, "two media, neither readable", ("/dev/sr0", "/dev/sr1", "empty"))
LATE = Case(GROUP, "late: the drive appears after 3 s", ("looks for the medium", "there is none"), ready=True)
SPINNING = Case(GROUP, "late: empty for 3 s, then readable", ("looks for the medium", "empty"), ready=True)
FIRST_FOREIGN = Case(GROUP, "two media, the first is somebody else's", ("/dev/sr1 read",), ready=True)
FIRST_BROKEN = Case(GROUP, "two media, the first is damaged", ("/dev/sr1 read",), ready=True)
BOTH_GOOD = Case(GROUP, "two media, each with an ovf-env.xml", ("/dev/sr0 read",), ready=True)


def in_a_row(cases: tuple[Case, ...]) -> Iterator[Row]:
    """One VM, one bad medium a start; at the end a good one, which makes up for all of them."""
    with booted() as vm:
        rows = []
        for case in cases:
            vm.lab.path(MEDIUM).unlink(missing_ok=True)
            rows.append(meet(vm, case, MEDIA[case.name][0]))
            stop(vm)
        vm.boot(vm.wanted.medium())
        afterwards = provisioned(vm)
        yield from (Row(row.case, row.reported, row.left, afterwards) for row in rows)


def in_a_pipe(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted() as vm:
        vm.lab.output("mkfifo", MEDIUM)
        yield meet(vm, cases[0], None)


def both_bad(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted() as vm:
        vm.lab.path(SECOND).write_bytes(b"")
        yield meet(vm, cases[0], DAMAGED["zeros"])


def late(cases: tuple[Case, ...]) -> Iterator[Row]:
    """The agent waits for it, and the same processes go on with it."""
    with booted(config=PATIENT) as vm:
        vm.boot(None if cases[0] is LATE else b"")
        residents = vm.residents()
        until("the host's ear", vm.scene.reports)
        assert pass_time(vm, LATE_S) < IDLE_CPU_S
        said = vm.story()
        assert [word for word in cases[0].words if word not in said] == []
        vm.scene.insert(vm.wanted.medium())
        left = provisioned(vm)
        assert (vm.settled()[0], vm.ps().overview.counters.restarts) == (residents[0], 0)
        yield Row(cases[0], f"until then: {said}; then Ready", left)


def two(cases: tuple[Case, ...]) -> Iterator[Row]:
    """The first that can be read counts, in the order in which the drives are numbered."""
    case = cases[0]
    first = {FIRST_FOREIGN: make_iso(b"somebody's music", plain_name="TRACK.TXT", rock_ridge=False, joliet=False)}
    first |= {FIRST_BROKEN: DAMAGED["extent past the end"], BOTH_GOOD: Wanted().medium()}
    other = make_udf(Wanted(user="mallory", host_name="other").ovf(), UdfForm(least_bytes=TYPICAL_BYTES))
    with booted() as vm:
        vm.lab.path(SECOND).write_bytes(other if case is BOTH_GOOD else vm.wanted.medium())
        vm.boot(first[case])
        left = provisioned(vm)
        assert vm.lab.run(["getent", "passwd", "mallory"]).returncode != 0
        yield Row(case, f"Ready; {_said(vm, case.words[0])}", left)


def _said(vm: Vm, words: str) -> str:
    """The end of the log's one line that has `words`, from there on."""
    lines = [line for line in vm.scene.log().splitlines() if words in line]
    assert len(lines) == 1, vm.scene.log()
    return lines[0][lines[0].index(words) :]


PLAYS: tuple[Play, ...] = (
    *(Play(FAILING[first::3], in_a_row) for first in range(3)),
    *(Play((case,), late) for case in (LATE, SPINNING)),
    *(Play((case,), two) for case in (FIRST_FOREIGN, FIRST_BROKEN, BOTH_GOOD)),
    Play((PIPE,), in_a_pipe),
    Play((BOTH_BAD,), both_bad),
)
