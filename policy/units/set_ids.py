# SPDX-License-Identifier: Apache-2.0
"""Owns one question about a kind: whether it could leave a file behind that runs as somebody else. Pure."""

from policy.facts import Facts

_SET_ID_BITS = 0o6000
_O_CREAT = 0o100
# The argument that is a mode, of each call that gives a file one; `openat2` has it where no filter can see it. A folder
# runs nothing: what mkdir gives it does not matter.
_MODE = {
    "chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "open": 2, "openat": 3, "mknod": 1,
    "mknodat": 2,
}  # fmt: skip
# The argument with the flags, of those that give a mode only with O_CREAT.
_FLAGS = {"open": 1, "openat": 2}
_MAKING = frozenset({"rw", "tools"})


def can_set_ids(facts: Facts) -> bool:
    """Whether a set-user-id or set-group-id bit gets past its filter and its mounts."""
    nowhere = (facts.own_view or facts.sealed) and not facts.granted(_MAKING)
    return not nowhere and (facts.may("openat2") or any(_gives_any_mode(facts, name) for name in _MODE))


def _gives_any_mode(facts: Facts, name: str) -> bool:
    if name in facts.calls.allowed:
        return True
    rules = [only for only in facts.calls.only if only.name == name and only.answer == "allow"]
    return not all(
        (only.argument == _MODE[name] and _refuses(only.mask, only.values, _SET_ID_BITS))
        or (only.argument == _FLAGS.get(name) and _refuses(only.mask, only.values, _O_CREAT))
        for only in rules
    )


def _refuses(mask: int, values: tuple[int, ...], bits: int) -> bool:
    """Whether a rule lets no argument through that has any of `bits`."""
    return mask & bits == bits and not any(value & bits for value in values)
