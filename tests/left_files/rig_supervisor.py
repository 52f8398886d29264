# SPDX-License-Identifier: Apache-2.0
"""The rig's second process, in the supervisor's place and confinement, which also looks at what handlers have left."""

from typing import TYPE_CHECKING

from tests.jail.rig_supervisor import serve

if TYPE_CHECKING:
    from tests.left_files.looking import Looking


def _looking() -> "type[Looking]":
    from tests.left_files.looking import Looking

    return Looking


if __name__ == "__main__":
    serve(_looking)
