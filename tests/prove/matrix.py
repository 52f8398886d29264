# SPDX-License-Identifier: Apache-2.0
"""Owns the matrix of controls and cases: for each control the attacks that succeed as soon as it is gone.

Runs in a lab as `python -m tests.prove.matrix [CONTROL...]`; prints one JSON object.
"""

import json
import sys
from collections.abc import Iterable

from supervisor.prove import proving, throwaway
from supervisor.prove.catalogue import DROPPABLE, read_catalogue
from supervisor.prove.controls import DROPS


def main(chosen: Iterable[str]) -> int:
    """Print {control: {kind, behind, flips}}."""
    refusal = throwaway.why_not()
    if refusal:
        sys.stderr.write(f"nothing may be weakened here: {refusal}\n")
        return 2
    catalogue = read_catalogue()
    reaches, policies = proving.read_reaches()
    found = {}
    for control in chosen:
        drop = DROPS[control]
        attacks = drop.among(catalogue)
        kinds = tuple(reaches[kind] for kind in drop.kinds)
        after = proving.succeeded(proving.prove(proving.Order(attacks, kinds, policies, (), drop.everything)))
        flipped = tuple(attack for attack in attacks if attack.id in after)
        before = proving.succeeded(proving.prove(proving.Order(flipped, kinds, policies, (), drop.behind)))
        found[control] = {
            "kind": drop.kinds[0],
            "behind": sorted(drop.behind),
            "flips": [name for name in after if name not in before],
        }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or DROPPABLE))
