"""NVIDIA's builder, started once for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.support.rtx import Rtx, rtx_builder


@pytest.fixture(scope="session")
def rtx() -> Iterator[Rtx]:
    with rtx_builder() as builder:
        yield builder
