# SPDX-License-Identifier: Apache-2.0
"""Reports to the host: exact text, and no way to break out of it."""

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from supervisor.wire.report import RoleIds, health, role_properties, trimmed

IDS = RoleIds("1", "c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2", "b61f93d0-e1ed-40b2-b067-22c243233448.VM")


def at(document: bytes, path: str) -> str | None:
    """Text of the element at `path`; line ends as the parser reads them."""
    return ET.fromstring(document).findtext(path)


def test_ready_is_this_document_exactly() -> None:
    assert health(IDS, "Ready") == (
        b'<?xml version="1.0" encoding="utf-8"?>'
        b'<Health xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        b'xmlns:xsd="http://www.w3.org/2001/XMLSchema">'
        b"<GoalStateIncarnation>1</GoalStateIncarnation><Container>"
        b"<ContainerId>c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2</ContainerId><RoleInstanceList><Role>"
        b"<InstanceId>b61f93d0-e1ed-40b2-b067-22c243233448.VM</InstanceId>"
        b"<Health><State>Ready</State></Health></Role></RoleInstanceList></Container></Health>"
    )


def test_not_ready_has_details() -> None:
    document = health(IDS, "NotReady", "ProvisioningFailed", "no <ovf-env.xml> & no disc")
    role = "Container/RoleInstanceList/Role/Health"
    assert at(document, f"{role}/State") == "NotReady"
    assert at(document, f"{role}/Details/SubStatus") == "ProvisioningFailed"
    assert at(document, f"{role}/Details/Description") == "no <ovf-env.xml> & no disc"
    assert b"no &lt;ovf-env.xml&gt; &amp; no disc" in document


def test_description_is_cut_before_escaping() -> None:
    document = health(IDS, "NotReady", "ProvisioningFailed", "&" * 5000)
    assert document.count(b"&amp;") == 3686


def test_description_fits_the_service_in_bytes_too() -> None:
    cut = trimmed("\u20ac" * 5000)
    assert len(cut.encode()) == 4095
    assert set(cut) == {"\u20ac"}


def test_ids_from_untrusted_bytes_stay_text() -> None:
    evil = RoleIds("1</GoalStateIncarnation><x/>", "]]><!--", "a\x00b\x1bc\ud800d\ufffe")
    document = health(evil, "Ready")
    assert at(document, "GoalStateIncarnation") == "1</GoalStateIncarnation><x/>"
    assert at(document, "Container/ContainerId") == "]]><!--"
    assert at(document, "Container/RoleInstanceList/Role/InstanceId") == "a\ufffdb\ufffdc\ufffdd\ufffd"


@given(st.text(st.characters(), max_size=200), st.text(st.characters(), max_size=200))
def test_any_text_gives_one_well_formed_document(identity: str, description: str) -> None:
    root = ET.fromstring(health(RoleIds(identity, identity, identity), "NotReady", "P", description))
    assert sorted(element.tag for element in root.iter()) == sorted(
        "Health GoalStateIncarnation Container ContainerId RoleInstanceList Role InstanceId Health State "
        "Details SubStatus Description".split()
    )


def test_role_properties_are_this_document_exactly() -> None:
    assert role_properties(IDS, {"CertificateThumbprint": "SHA256ab+/9"}) == (
        b'<?xml version="1.0" encoding="utf-8"?><RoleProperties><Container>'
        b"<ContainerId>c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2</ContainerId><RoleInstances><RoleInstance>"
        b"<Id>b61f93d0-e1ed-40b2-b067-22c243233448.VM</Id>"
        b'<Properties><Property name="CertificateThumbprint" value="SHA256ab+/9" /></Properties>'
        b"</RoleInstance></RoleInstances></Container></RoleProperties>"
    )


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=80),
    st.text(st.sampled_from("\"'<>&\t\r\n a]"), max_size=20),
)
def test_any_property_arrives_as_it_was(identity: str, value: str) -> None:
    root = ET.fromstring(role_properties(RoleIds("1", identity, identity), {identity: value, "n": identity}))
    first, second = root.iterfind("Container/RoleInstances/RoleInstance/Properties/Property")
    carried = identity.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    assert (first.attrib, second.attrib) == ({"name": carried, "value": value}, {"name": "n", "value": carried})
    assert len(list(root.iter())) == 9
