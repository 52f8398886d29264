# SPDX-License-Identifier: Apache-2.0
"""What the parser's tests share: media as descriptors, and payloads that others made."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipc.descriptors import sealed_memfd
from workers.parser import bounds, iso, udf
from workers.parser.blocks import Blocks
from workers.parser.main import BUDGET_BYTES, OVF_NAME

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors"

Vector = Callable[[str], bytes]
Read = Callable[..., bytes]


@pytest.fixture(scope="session")
def vector() -> Vector:
    """The bytes of a payload by its path in ../shared/vectors; skips where that folder is absent."""

    def read(name: str) -> bytes:
        if not VECTORS.is_dir():
            pytest.skip("the folder ../shared/vectors, with payloads that others made, is not here")
        return (VECTORS / name).read_bytes()

    return read


@pytest.fixture
def descriptor() -> Iterator[Callable[[bytes], int]]:
    """Makes descriptors of images, closed at the end."""
    made: list[int] = []

    def make(image: bytes) -> int:
        made.append(sealed_memfd("medium", image))
        return made[-1]

    yield make
    for number in made:
        os.close(number)


@pytest.fixture
def read_udf(descriptor: Callable[[bytes], int]) -> Read:
    def read(image: bytes, *path: str, size: int | None = None, budget: int = BUDGET_BYTES) -> bytes:
        blocks = Blocks(descriptor(image), len(image) if size is None else size, budget)
        return udf.read_file(blocks, path or (OVF_NAME,), bounds.MAX_DOCUMENT_BYTES)

    return read


@pytest.fixture
def read_iso(descriptor: Callable[[bytes], int]) -> Read:
    def read(image: bytes, name: str = OVF_NAME) -> bytes:
        return iso.read_file(Blocks(descriptor(image), len(image), BUDGET_BYTES), name, bounds.MAX_DOCUMENT_BYTES)

    return read
