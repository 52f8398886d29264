# SPDX-License-Identifier: Apache-2.0
"""GoalState and Versions documents (wire-protocol.md 3, 4)."""

from collections.abc import Callable

import pytest

from ipc.codec import decode, encode
from ipc.errors import InputError
from workers.parser import goal_state, versions

Vector = Callable[[str], bytes]
MINIMAL = (
    b"<GoalState><Incarnation>7</Incarnation><Container><ContainerId>c</ContainerId><RoleInstanceList><RoleInstance>"
    b"<InstanceId>i</InstanceId></RoleInstance></RoleInstanceList></Container></GoalState>"
)


def test_a_goal_state_of_the_host_is_read(vector: Vector) -> None:
    state = goal_state.parse(vector("wire/goal_state.xml"))
    assert (state.incarnation, state.container_id) == ("1", "c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2")
    assert state.remote_access_url == ""
    role = state.role_instance
    assert role is not None
    assert role.instance_id == "b61f93d0-e1ed-40b2-b067-22c243233448.MachineRole_IN_0"
    assert role.config_name.partition(".")[0] == "bc8b9d47-b5ed-4704-85d9-fd74cc967ec2"
    assert role.hosting_environment_url.endswith("?comp=config&type=hostingEnvironmentConfig&incarnation=1")
    assert role.shared_config_url.endswith("?comp=config&type=sharedConfig&incarnation=1")
    assert role.extensions_config_url.endswith("?comp=config&type=extensionsConfig&incarnation=1")
    assert role.certificates_url.endswith("?comp=certificates&incarnation=1")
    assert decode(encode(state, 0)).message == state


def test_what_a_goal_state_may_lack_is_empty(vector: Vector) -> None:
    role = goal_state.parse(vector("wire/goal_state_no_ext.xml")).role_instance
    assert role is not None
    assert role.extensions_config_url == ""
    assert goal_state.parse(MINIMAL).role_instance is not None


def test_white_space_around_an_address_does_not_belong_to_it(vector: Vector) -> None:
    state = goal_state.parse(vector("wire/goal_state_remote_access.xml"))
    assert state.remote_access_url == "http://168.63.129.16:80/remoteaccessinfouri/"


def test_a_goal_state_without_a_role_instance_says_so() -> None:
    state = goal_state.parse(b"<GoalState><Incarnation>7</Incarnation></GoalState>")
    assert (state.incarnation, state.container_id, state.role_instance) == ("7", "", None)


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (b"<html><body>busy</body></html>", "GoalState"),
        (MINIMAL.replace(b"<Incarnation>7</Incarnation>", b""), "GoalState/Incarnation"),
        (MINIMAL.replace(b"<Incarnation>7<", b"<Incarnation> <"), "GoalState/Incarnation"),
        (MINIMAL.replace(b"<ContainerId>c</ContainerId>", b""), "Container/ContainerId"),
        (MINIMAL.replace(b"<InstanceId>i</InstanceId>", b""), "RoleInstance/InstanceId"),
        (MINIMAL.replace(b">i<", b">" + b"i" * 1025 + b"<"), "InstanceId"),
        (MINIMAL[:-12], "line 1, column 183"),
    ],
)
def test_a_goal_state_that_cannot_be_used_is_refused_by_name(document: bytes, where: str) -> None:
    with pytest.raises(InputError) as refused:
        goal_state.parse(document)
    assert refused.value.where == where


def test_versions_are_read(vector: Vector) -> None:
    found = versions.parse(vector("wire/version_info.xml"))
    assert (found.preferred, found.supported) == ("2012-11-30", ("2010-12-15", "2010-28-10"))


def test_versions_may_be_few_but_not_without_end() -> None:
    found = versions.parse(b"<Versions><Supported><Version>1</Version></Supported></Versions>")
    assert (found.preferred, found.supported) == ("", ("1",))
    for document in (
        b"<Version/>",
        b"<Versions><Supported>" + b"<Version>1</Version>" * 257 + b"</Supported></Versions>",
        b"<Versions><Supported><Version>" + b"1" * 1025 + b"</Version></Supported></Versions>",
        b"<Versions><Supported>" + (b"<Version>" + b"1" * 1000 + b"</Version>") * 40 + b"</Supported></Versions>",
    ):
        with pytest.raises(InputError, match=r"^Versions: "):
            versions.parse(document)
