# SPDX-License-Identifier: Apache-2.0
"""The job of the worker that copies waagent's policy file: the file that is there now, or that there is none."""

from collections.abc import Iterator

from ipc.messages import ReadWaagentPolicy, WaagentPolicyRead
from ipc.messages.waagent_policy import MOST_POLICY_BYTES
from tests.least.place import Place
from tests.least.scenario import Reply, Scenario

FILE = "/etc/waagent_policy.json"
POLICY = b'{"policyVersion": "0.1.0"}\n'


def scenarios() -> Iterator[Scenario]:
    read, final = ReadWaagentPolicy(), (WaagentPolicyRead,)
    about = frozenset({"/etc/waagent_policy.json", "WaagentPolicyRead in steady"})
    kind = "waagent-policy"
    yield Scenario(kind, "a policy file of root's alone", read, final, _is_copied, _there, about=about, phase="steady")
    yield Scenario(kind, "no policy file", read, final, _is_none, _not_there, phase="steady")
    yield Scenario(kind, "a policy file too large", read, final, _is_too_large, _too_large, phase="steady")


def _there(place: Place) -> None:
    place.write(FILE, POLICY, 0o600)


def _not_there(place: Place) -> None:
    place.remove(FILE)


def _too_large(place: Place) -> None:
    place.write(FILE, b" " * (MOST_POLICY_BYTES + 1))


def _is_copied(_: Place, reply: Reply) -> None:
    assert reply.last(WaagentPolicyRead) == WaagentPolicyRead(is_there=True)
    assert reply.contents[-1] == (POLICY,)


def _is_none(_: Place, reply: Reply) -> None:
    assert reply.last(WaagentPolicyRead) == WaagentPolicyRead(is_there=False)


def _is_too_large(_: Place, reply: Reply) -> None:
    assert reply.last(WaagentPolicyRead).problem == f"it is larger than {MOST_POLICY_BYTES} bytes"
