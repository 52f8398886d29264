# SPDX-License-Identifier: Apache-2.0
"""Measures what honest workers notice while others, taken over, attack the supervisor by way of their channels.

The attacks are those of tests/abuse, in the real confinement, against the real fleet and loop.
"""

from tests.abuse.attempts import HONEST
from tests.abuse.ground import Ground
from tests.bench.samples import Budget, Row, in_unit
from tests.fabric.lab import Lab

# Two at a time, one attack after the other: with the honest one that makes three busy workers.
SIEGES = {
    "no attack": (),
    "floods of frames": ("floods", "zmtp_empty_frames"),
    "floods of pings and parts": ("zmtp_pings", "zmtp_small_parts"),
    "malformed and oversized": ("deep_nesting", "zmtp_size_beyond_all"),
    "floods of words and descriptors": ("floods_the_log", "announces_many"),
}
BUDGET_MS = 50


def measure(times: int) -> list[Row]:
    """Round trips of honest parsers, `times` for each siege."""
    rows = []
    with Lab() as lab:
        ground = Ground(lab)
        for name, attacks in SIEGES.items():
            rig = ground.rig()
            contents = [f"attack {attack}" for attack in attacks]
            number = rig.tell("siege", trips=times, honest=HONEST, attacks=contents)
            answer = rig.answer(number, timeout_s=30.0 + times)
            # A time, so that it fails nothing; but held against p99.
            budget = Budget(BUDGET_MS, binding=False)
            rows.append(Row(f"request to answer: {name}", "ms", in_unit(tuple(answer["seconds"]), "ms"), budget, 99))
            rows.append(Row("  the supervisor's loop late, at most", "ms", in_unit((answer["late_s"],), "ms")))
            ground.clear()
    return rows
