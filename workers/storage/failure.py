# SPDX-License-Identifier: Apache-2.0
"""Owns the one way in which a transfer ends badly. Runs in the storage worker; no text of it names a query."""

from ipc.errors import AgentError


class TransferError(AgentError):
    """It came to nothing; `status` is what was answered, 0 where that was not the reason."""

    def __init__(self, problem: str, status: int = 0) -> None:
        super().__init__(problem)
        self.status = status
