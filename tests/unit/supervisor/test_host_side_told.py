# SPDX-License-Identifier: Apache-2.0
"""What the host's side tells whoever may ask: no worker's sentence brings a token or a key along."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ipc.errors import HostUnreachable
from supervisor.certificate_store import CertificateStore
from supervisor.config import parse
from supervisor.host_side import HostSide
from supervisor.journal import Journal
from supervisor.layout import Layout
from supervisor.loop import Loop
from supervisor.parts import Parts
from supervisor.redaction import REMOVED, Redactor, cleaned
from supervisor.wire.host import WireServer
from tests.unit.supervisor.turned import HandClock, run

pytestmark = pytest.mark.root

PLANTED = "GET https://a.example/b?sv=1&sig=PlantedToken%3D: silent; -----BEGIN RSA PRIVATE KEY-----PlantedKey"


async def failing(*_: object) -> Any:
    raise HostUnreachable(PLANTED)


def side_in(folder: Path, redactor: Redactor) -> tuple[Loop, HostSide]:
    """One whose host and workers say nothing but PLANTED."""
    loop = Loop(HandClock())
    host = WireServer(loop, "127.0.0.1")
    prepared = SimpleNamespace(begin=lambda _: None, forgo=lambda _: None)
    store = CertificateStore(str(folder / "certificates"))
    parts: dict[str, Any] = dict.fromkeys(Parts.__struct_fields__)
    parts |= {
        "loop": loop,
        "fleet": SimpleNamespace(prepared=prepared),
        "table": SimpleNamespace(phase="steady"),
        "contact": SimpleNamespace(host=host, goal_state=None, refresh=failing, parse=failing, parse_with=failing),
        "credentials": SimpleNamespace(certificates=store, certificate="", ensure=failing),
        "journal": Journal(folder / "journal"),
        "config": parse("").config,
        "layout": Layout(state=str(folder), lib=str(folder)),
        "say": lambda *_: None,
        "keep_secret": redactor.register,
        "clean": redactor.clean,
        "audit": lambda _: None,
    }
    return loop, HostSide(Parts(**parts))


def test_a_planted_token_is_in_no_answer(tmp_path: Path) -> None:
    loop, side = side_in(tmp_path, Redactor())
    run(loop, side.goal_states.once())
    run(loop, side.certificates.refresh("http://127.0.0.1/certificates"))
    answers = [msgspec.to_builtins(side.contact), side.goal_state(), side.certificates_shown()]
    for answer in answers:
        assert REMOVED in str(answer)
        assert "GET https://a.example/b" in str(answer)
        assert "Planted" not in str(answer)
    assert "Planted" in side.goal_states.trouble, "nothing was planted"


def test_all_of_an_answer_is_cleaned_and_stays_what_it_was() -> None:
    data = {"text": "a", "list": ["a", ("a", 1)], "none": None, "a": {"deep": 1.5, "on": True}}
    assert cleaned(data, str.upper) == {
        "text": "A",
        "list": ["A", ["A", 1]],
        "none": None,
        "a": {"deep": 1.5, "on": True},
    }
