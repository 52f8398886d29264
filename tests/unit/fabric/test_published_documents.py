# SPDX-License-Identifier: Apache-2.0
"""What the emulated host publishes has the form of what a real one has published."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.fabric.config_documents import CONFIG_DOCUMENTS
from tests.fabric.documents import PARTS, GoalState, versions_xml
from tests.fabric.wire_client import ask_once, get_goal_state
from tests.fabric.wire_wrongs import CERTIFICATE, RIGHT
from tests.fabric.wireserver import WireServer

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "wire"
GOAL_STATE = GoalState(endpoint="168.63.129.16:80")
OURS = {
    "goal_state.xml": GOAL_STATE.xml(),
    "version_info.xml": versions_xml("2012-11-30", ("2010-12-15",)),
    "hosting_env.xml": CONFIG_DOCUMENTS["hostingenvironment"](GOAL_STATE),
    "shared_config.xml": CONFIG_DOCUMENTS["sharedconfig"](GOAL_STATE),
    "ext_conf.xml": CONFIG_DOCUMENTS["extensionsconfig"](GOAL_STATE),
    "certs.xml": CONFIG_DOCUMENTS["certificates"](GOAL_STATE),
}
# Elements that some hosts send and the payload at hand happens not to have.
MORE = {"/GoalState/Machine/StopRolesDeadlineHint"}


def paths(document: str | bytes) -> set[str]:
    """Every element and attribute, by its path."""

    def walk(node: ET.Element, above: str) -> set[str]:
        here = f"{above}/{node.tag}"
        return {here, *(f"{here}@{name}" for name in node.attrib)}.union(*(walk(child, here) for child in node))

    return walk(ET.fromstring(document), "")


@pytest.mark.parametrize("name", OURS)
def test_a_document_says_nothing_that_real_ones_do_not(name: str) -> None:
    if not VECTORS.is_dir():
        pytest.skip("the folder ../shared/vectors, with payloads that others made, is not here")
    assert paths(OURS[name]) - paths((VECTORS / name).read_bytes()) <= MORE


def test_the_goal_state_names_the_addresses_that_are_served() -> None:
    with WireServer() as server:
        root = ET.fromstring(ask_once(server.address, get_goal_state(server.address)).body)
        named = {name: root.findtext(f".//{element}") for name, element in PARTS.items()}
        host = f"http://{server.address[0]}:{server.address[1]}"
        assert named == {name: host + target for name, target in server.goal_state.targets().items()}
        for name in CONFIG_DOCUMENTS:
            reply = ask_once(server.address, RIGHT[name](server))
            assert (reply.status, reply.headers["content-type"]) == (200, "text/xml; charset=utf-8")
            assert ET.fromstring(reply.body) is not None
        assert server.refusals == ()


def test_a_goal_state_without_extensions_names_no_config_for_them() -> None:
    bare = GoalState(extensions=False)
    assert "extensionsconfig" not in bare.targets()
    assert "ExtensionsConfig" not in bare.xml()


def test_the_documents_name_the_vm_as_the_goal_state_does() -> None:
    environment = ET.fromstring(CONFIG_DOCUMENTS["hostingenvironment"](GOAL_STATE))
    deployment, incarnation = environment.find("Deployment"), environment.find("Incarnation")
    assert deployment is not None
    assert incarnation is not None
    assert deployment.get("name") == GOAL_STATE.deployment_id
    assert f"{GOAL_STATE.deployment_id}.{incarnation.get('instance')}" == GOAL_STATE.instance_id
    assert ET.fromstring(CONFIG_DOCUMENTS["certificates"](GOAL_STATE)).find("Data") is None


def test_a_certificate_that_the_reference_agent_made_is_taken() -> None:
    if not VECTORS.is_dir():
        pytest.skip("the folder ../shared/vectors, with payloads that others made, is not here")
    lines = (VECTORS / "trans_cert").read_text().splitlines()
    header = "".join(line for line in lines if "----" not in line)
    with WireServer() as server:
        ask_once(server.address, get_goal_state(server.address))
        draft = RIGHT["certificates"](server).having(CERTIFICATE, header).having("x-ms-cipher-name", "DES_EDE3_CBC")
        assert ask_once(server.address, draft).status == 200
