# SPDX-License-Identifier: Apache-2.0
"""Least by experiment: whatever is taken away, a job fails; what is held back gets through once it is let go.

Here with a sample of the grants that every kind has a part in, another one each day; `make least` tries all of them.
"""

import datetime
import os
import random
from collections.abc import Sequence

import pytest

from policy.call_numbers import is_here
from tests.jail.rigged import Rig
from tests.least import boots, calls, elsewhere, requests, residents, usage
from tests.least.experiments import Finding, find, line
from tests.least.grants import Grant, grants_of
from tests.least.ground import GROUNDS, machine
from tests.least.scenarios import all_scenarios
from tests.least.variants import RESIDENTS, RIG, Policy, Variants, by_kind, read

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

# Which part of a day's grants is tried; the day's number decides which.
DAYS = 6
SEED = int(os.environ.get("LEAST_SEED") or datetime.datetime.now(datetime.UTC).date().toordinal())
BOOTS = 3


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read()


def sample(grants: Sequence[Grant]) -> list[Grant]:
    """Of each kind some, and each of them on some day."""
    chosen = []
    for kind, own in sorted(by_kind(grants).items()):
        shuffled = random.Random(kind).sample(own, len(own))
        chosen += shuffled[SEED % DAYS :: DAYS] or shuffled[:1]
    return chosen


def unneeded(findings: Sequence[Finding]) -> list[str]:
    return [line(each) for each in findings if not each.needed and not elsewhere.reason(each.grant)]


def test_without_a_grant_a_job_of_its_worker_fails(policy: Policy) -> None:
    workers = [grant for grant in policy.grants if grant.kind not in RESIDENTS]
    tried = find(policy, sample(workers), all_scenarios(), lambda _: None)
    assert {each.grant.kind for each in tried} == {grant.kind for grant in workers}
    assert unneeded(tried) == [], f"on day {SEED}"


def test_without_a_grant_of_the_services_own_a_boot_fails(policy: Policy) -> None:
    own = [grant for grant in policy.grants if grant.kind in RESIDENTS]
    chosen = random.Random(SEED).sample(own, BOOTS)
    assert unneeded(residents.find(policy, chosen, lambda _: None)) == [], f"on day {SEED}"


def test_a_boot_with_nothing_taken_away_goes_well(policy: Policy) -> None:
    assert boots.failure(Variants(policy)) == ""


def test_what_once_and_after_hold_back_gets_through_without_them(policy: Policy) -> None:
    variants = Variants(policy)
    rows = list(requests.rows(policy, variants))
    assert len(rows) > len(policy.companions)
    with machine() as lab, Rig(lab, variants.place(lab, "rows", RIG), modules=requests.MODULES) as rig:
        wrong = [text for row in rows for text in requests.problems(rig, row, policy.profiles[row.kind])]
    assert wrong == []


def test_every_request_that_is_permitted_is_sent_in_some_boot(policy: Policy) -> None:
    assert usage.unused(policy, usage.used(policy)) == []


def test_each_locked_call_is_seen_or_stands_in_the_margin(policy: Policy) -> None:
    here = [each for each in all_scenarios() if each.kind not in GROUNDS]
    accounts = list(calls.accounts(policy, calls.trace(policy, here)))
    assert {account.kind for account in accounts} >= {each.kind for each in here}
    assert [str(account) for account in accounts if account.unexplained] == []


def test_the_margin_names_no_call_that_nobody_has(policy: Policy) -> None:
    granted = {account.kind: account.granted for account in calls.accounts(policy, dict.fromkeys(policy.profiles, ()))}
    for reserve in calls.reserves():
        kinds = reserve.kinds or tuple(granted)
        assert set(kinds) <= set(granted), reserve
        had = set().union(*(granted[kind] for kind in kinds))
        left = {call for call in reserve.calls if is_here(call)} - had
        assert left == set(), f"{reserve.why}: {left}"


def test_no_mark_for_machines_elsewhere_is_out_of_date(policy: Policy) -> None:
    assert list(elsewhere.stale(policy.grants, (), "")) == []


def test_a_grant_too_many_is_found(policy: Policy) -> None:
    """What no job needs is said to be needed by nobody: here the verifier's, of a folder that it does not look at."""
    profile = policy.profiles["verifier"]
    more = profile.paths[0].__class__(path="/srv", access="ro", why="no job needs this")
    wider = profile.__class__(
        **{name: getattr(profile, name) for name in profile.__struct_fields__} | {"paths": (*profile.paths, more)}
    )
    widened = policy._replace(profiles=policy.profiles | {"verifier": wider})
    grants = [grant for grant in grants_of(wider) if grant.what == "path"]
    told = {each.grant.name: each.needed for each in find(widened, grants, all_scenarios(), lambda _: None)}
    assert told == {"/proc": True, "/srv": False}
