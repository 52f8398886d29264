# SPDX-License-Identifier: Apache-2.0
"""The sealed file of settings and signatures: what is in it, who may have what of it, and when it is let go of."""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from ipc.descriptors import sealed_memfd
from ipc.errors import BadDescriptor
from ipc.messages import ExtensionsGoalState, Span
from supervisor.goal_state.settings import NO_SETTINGS, SettingsBundle, taken
from supervisor.wire.plugin import PluginAnswer
from tests.fabric.extensions_documents import extensions_xml, vm_settings_json
from tests.fabric.plan import Plan, Plugin, Settings
from tests.unit.goal_state.test_goal_state_choice import OLD, wire
from tests.unit.goal_state.test_vm_settings_poll import Ground, document
from workers.parser import extensions_config, vm_settings

if TYPE_CHECKING:
    from supervisor.goal_state.adopted import Adopted
    from supervisor.goal_state.vm_settings import Heard

SIGNATURE = b"\x30\x82\x01\x00 a package's signature"
SEALED = "MIIB/sealed+for+the+tenant=="
THUMBPRINT = "ab" * 20
PUBLIC = {"text": 'a < b & "c" \u20ac', "number": 1.50, "big": 2**70, "deep": [None, True, {"": []}]}
PLACES = ("https://one.example/m.xml", "https://two.example/m.xml")
PLAN = Plan(
    plugins=(
        Plugin(
            "Contoso.One",
            locations=PLACES,
            signature=base64.b64encode(SIGNATURE).decode(),
            settings=(Settings(sequence=3, public=PUBLIC, sealed=SEALED, thumbprint=THUMBPRINT),),
        ),
        Plugin(
            "Contoso.Two",
            locations=PLACES,
            is_multi=True,
            settings=(Settings("a", 1), Settings("b", 2, public={"b": 1})),
        ),
        Plugin("Contoso.Three", locations=PLACES, signature="no base64!"),
    )
)


def of_xml() -> tuple[ExtensionsGoalState, bytes]:
    message, _, settings = extensions_config.parse(extensions_xml(PLAN, 1).encode())
    return message, settings


def of_json() -> tuple[ExtensionsGoalState, bytes]:
    message, _, settings = vm_settings.parse(vm_settings_json(PLAN, "FastTrack", 1).encode())
    return message.goal_state, settings


def bundle(content: bytes) -> SettingsBundle:
    return SettingsBundle(sealed_memfd("settings", content))


def open_descriptors() -> int:
    """At this moment: nothing waits for the garbage collector."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def handler_settings(file: bytes) -> dict[str, Any]:
    (only,) = json.loads(file)["runtimeSettings"]
    assert set(only) == {"handlerSettings"}
    found: dict[str, Any] = only["handlerSettings"]
    return found


@pytest.mark.parametrize("read", [of_xml, of_json])
def test_each_extension_has_its_settings_file_and_each_package_its_signature(
    read: Callable[[], tuple[ExtensionsGoalState, bytes]],
) -> None:
    goal_state, content = read()
    files = bundle(content)
    one, two, three = goal_state.plugins
    assert files.of(one.signature) == SIGNATURE
    assert files.of(three.signature) == b"no base64!", "a signature that is none must not pass for none"
    assert (two.signature, files.of(two.signature)) == (Span(), b"")
    assert handler_settings(files.of(one.settings[0].file)) == {
        "publicSettings": PUBLIC, "protectedSettings": SEALED, "protectedSettingsCertThumbprint": THUMBPRINT,
    }  # fmt: skip
    nothing = dict.fromkeys(("publicSettings", "protectedSettings", "protectedSettingsCertThumbprint"))
    assert [handler_settings(files.of(each.file)) for each in two.settings] == [
        nothing, {**nothing, "publicSettings": {"b": 1}},
    ]  # fmt: skip
    parts = [one.signature, three.signature, *(each.file for plugin in goal_state.plugins for each in plugin.settings)]
    assert sum(part.size for part in parts) == len(content)


def test_public_settings_stay_as_they_were_written() -> None:
    written = ' {"a": 1.0e2,\n "b" : 12345678901234567890123, "a": "\\u00e4", "c": "\\/"}'
    body = f'{{"runtimeSettings":[{{"handlerSettings":{{"publicSettings":{written}}}}}]}}'
    settings = f'<Plugin name="A.B" version="1"><RuntimeSettings seqNo="0">{body}</RuntimeSettings></Plugin>'
    plugins = '<Plugins><Plugin name="A.B" version="1" state="enabled"/></Plugins>'
    _, _, content = extensions_config.parse(
        f"<Extensions>{plugins}<PluginSettings>{settings}</PluginSettings></Extensions>".encode()
    )
    assert written.strip().encode() in content
    told = {"name": "A.B", "version": "1", "state": "enabled", "settingsSeqNo": 0}
    said = {"extensionGoalStates": [{**told, "settings": [{"publicSettings": written}]}]}
    _, _, content = vm_settings.parse(json.dumps(said).encode())
    assert written.strip().encode() in content


def test_settings_that_are_unusable_are_no_file() -> None:
    goal_state, _, content = extensions_config.parse(
        b'<Extensions><Plugins><Plugin name="A.B" version="1" state="enabled"/></Plugins><PluginSettings>'
        b'<Plugin name="A.B" version="1"><RuntimeSettings seqNo="0">{</RuntimeSettings></Plugin>'
        b"</PluginSettings></Extensions>"
    )
    (settings,) = goal_state.plugins[0].settings
    assert settings.problem
    assert (settings.file, content) == (Span(), b"")


@pytest.mark.parametrize("span", [Span(0, 9), Span(8, 1), Span(2**62, 2**62), Span(7, 2)])
def test_nothing_is_read_outside_of_it(span: Span) -> None:
    files = bundle(b"settings")
    assert files.of(Span(1, 3)) == b"ett"
    with pytest.raises(BadDescriptor, match="are not in the 8 of the settings"):
        files.of(span)


def test_what_others_could_change_is_no_bundle_and_is_closed() -> None:
    before = open_descriptors()
    for made in (os.memfd_create("open"), os.open("/dev/null", os.O_RDONLY)):
        with pytest.raises(BadDescriptor):
            SettingsBundle(made)
    for copy in (os.memfd_create("open"), sealed_memfd("copy", b"copy")):
        with pytest.raises(BadDescriptor):
            taken((copy, os.memfd_create("open")))
    assert open_descriptors() == before


def test_equal_goal_states_with_equal_settings_are_equal_and_show_none() -> None:
    one, same, other = (
        msgspec.structs.replace(wire(OLD), bundle=bundle(content)) for content in (b"secret", b"secret", b"Secret")
    )
    assert one == same
    assert hash(one.bundle) == hash(same.bundle)
    assert one != other
    assert one != wire(OLD)
    assert "secret" not in repr(one)
    assert NO_SETTINGS.of(Span()) == b""


def test_two_hundred_goal_states_leave_one_descriptor() -> None:
    ground = Ground()
    current: Adopted | None = None
    heard: Heard | None = None
    before = open_descriptors()
    for number in range(200):
        plan = vm_settings_json(PLAN, "FastTrack", number).encode()
        heard = ground.ask(PluginAnswer(200, plan if number % 10 else document(), f"{number}"))
        assert heard.settings is not None
        current = msgspec.structs.replace(wire(OLD), goal_state=heard.settings.goal_state, bundle=heard.bundle)
        ground.poll.settle()
        assert open_descriptors() <= before + 2
    assert current is not None
    assert len(current.bundle.of(current.goal_state.plugins[0].settings[0].file)) > 100
    ground.ask(PluginAnswer(404, b"", ""))
    del current, heard
    assert open_descriptors() == before
