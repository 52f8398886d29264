# SPDX-License-Identifier: Apache-2.0
"""A provisioning worker in the wrong hands: an honest plan, but for the custom data that it hands over.

Runs in the worker. Which lie it tells stands in the custom data itself: "lie NAME ...".
"""

from base64 import b64encode
from collections.abc import Callable, Iterator

from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.messages import PlanComplete, PlanProvisioning, StoreCustomData
from ipc.secret import Secret
from workers.provisioning.grammar import custom_data
from workers.provisioning.plan import plan
from workers.runtime import Answer

LARGEST = 65536
# From what is to be stored: the size that is said, and the contents that are handed over.
LIES: dict[str, Callable[[bytes], tuple[int, tuple[bytes, ...]]]] = {
    "honest": lambda due: (len(due), (due,)),
    "other_of_the_same_size": lambda due: (len(due), (due.swapcase(),)),
    "longer": lambda due: (len(due) + 1, (due + b"x",)),
    "shorter": lambda due: (len(due) - 1, (due[:-1],)),
    "longer_than_said": lambda due: (len(due), (due + b"x",)),
    "nothing": lambda due: (0, (b"",)),
    "still_encoded": lambda due: (len(b64encode(due)), (b64encode(due),)),
    "none_handed_over": lambda due: (len(due), ()),
    "a_second_one": lambda due: (len(due), (due, due)),
}


def on_plan(request: PlanProvisioning, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """The real worker's plan with the lie in it."""
    due = custom_data(read_sealed(descriptors[0], LARGEST), request.options.decode_custom_data)
    close_all(descriptors)
    said, contents = LIES[due.split()[1].decode()](due)
    proposals = plan(request, due, lambda *_: Secret(""))
    for proposal in proposals:
        if isinstance(proposal, StoreCustomData):
            yield StoreCustomData(said), tuple(sealed_memfd("custom-data", content) for content in contents)
        else:
            yield proposal
    yield PlanComplete(len(proposals))
