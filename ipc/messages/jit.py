# SPDX-License-Identifier: Apache-2.0
"""Owns the orders that end or move what a JIT account has (provisioning.md 11); it is made as any other account is."""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Name, Short

# What the comment field of such an account says, exactly. Its user may add fields after a comma: then it is one of
# these if its uid is the one that it was made with.
COMMENT = "JIT_Account"
# In the problem of a CommitFailed, after the name: nothing of that account is ours.
ORDINARY = "is an ordinary account"


class RemoveJitAccount(Message, frozen=True):
    """To the jit-account committer: the account goes, with what runs as it, its mailbox and its home in `home_dir`.

    CommitFailed for an account that is no JIT account; none of that name is fine. `uid`: what it was made with, 0 when
    that is not known."""

    user_name: Name
    home_dir: Short
    uid_min: int
    uid: int = 0


class MoveJitExpiry(Message, frozen=True):
    """To the jit-account committer: nobody can log in any more from this day on, counted from 1970-01-01."""

    user_name: Name
    uid_min: int
    day: Annotated[int, msgspec.Meta(ge=1, le=2_932_896)]
    uid: int = 0


class WithdrawSudo(Message, frozen=True):
    """To the sudoers committer: no line of ours for an account that is no more."""

    user_name: Name
    sudoers_dir: Short
