# SPDX-License-Identifier: Apache-2.0
"""Owns keeping out of the resident processes what only development brings along; imported first by both, by no others.

msgspec takes typing_extensions where it finds it, and that takes inspect and ast: 1.5 MiB and 10 ms for nothing.
"""

import sys

sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
