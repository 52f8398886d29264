# SPDX-License-Identifier: Apache-2.0
"""Owns what makes the resident processes start quick and small; imported first by both, before anything else.

msgspec takes typing_extensions where it finds it, and that takes inspect and ast: 1.5 MiB and 10 ms for nothing.
The collector would look ten times over what imports make, and none of that is ever garbage: whoever imports this calls
`heap.settle` once everything is loaded.
"""

import gc
import sys

gc.disable()

sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
