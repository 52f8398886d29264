# SPDX-License-Identifier: Apache-2.0
"""A VM for a test: the lab, what is on its DVD, and the emulated host beside it."""

from collections.abc import Iterator

import pytest

from tests.fabric.bad_input import Played
from tests.fabric.lab import Lab
from tests.fabric.scene import Scene, Wanted, image_files


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Namespaces over an overlay of this machine, with what an image has before its first boot."""
    with Lab(image_files()) as made:
        yield made


@pytest.fixture
def dvd() -> Wanted:
    """What the tenant asked for; `dvd.medium()` is the image."""
    return Wanted()


@pytest.fixture
def fabric(lab: Lab, dvd: Wanted) -> Scene:
    """The lab with the emulated host listening and the DVD in the drive; the agent is still to be started."""
    scene = Scene(lab)
    scene.start_host()
    scene.insert(dvd.medium())
    return scene


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> Iterator[Played]:
    """Those of the module's PLAYS that its chosen tests ask for, under way."""
    chosen = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    wanted = {item.callspec.params.get("case") for item in chosen if item.module is request.module}
    plays = Played(play for play in request.module.PLAYS if wanted & set(play.cases))
    yield plays
    plays.close()
