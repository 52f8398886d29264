# SPDX-License-Identifier: Apache-2.0
"""What an exec'd worker does without at its start, and that it would have it otherwise."""

import subprocess
import sys

import pytest

PLAIN = "import importlib; importlib.import_module(name)"
LEAN = "lean.import_worker(name)"


@pytest.mark.parametrize(("how", "is_there"), [(LEAN, False), (PLAIN, True)])
def test_the_storage_worker_looks_up_no_versions(how: str, is_there: bool) -> None:
    script = f"import sys; name = 'workers.storage.main'; from supervisor import lean; {how}"
    told = f"{script}; print('importlib.metadata' in sys.modules, name in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == [str(is_there), "True"]
