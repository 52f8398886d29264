# SPDX-License-Identifier: Apache-2.0
"""Owns the answer "this kernel or machine has no such mechanism", apart from "the mechanism failed"."""

from ipc.errors import ConfinementError


class Missing(ConfinementError):
    """A mechanism that is not there; `mechanism` is its name in ipc.records.MECHANISMS. Whoever catches it tells."""

    def __init__(self, mechanism: str, cause: str) -> None:
        super().__init__(mechanism, f"not on this machine: {cause}")
        self.mechanism = mechanism
