"""An event loop whose time is moved by hand, so that timers ring when a test says so."""

import asyncio
from collections.abc import Mapping

import pytest

from service.testing import FakeClock


class HandTimedLoop(asyncio.SelectorEventLoop):
    """Runs like any other, but timers see a clock that stands still."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        super().__init__()

    def time(self) -> float:
        return self.clock.now()


def pytest_asyncio_loop_factories() -> Mapping[str, type[HandTimedLoop]]:
    return {"time by hand": HandTimedLoop}


@pytest.fixture
async def clock() -> FakeClock:
    """The clock of the event loop that the test runs on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, HandTimedLoop)
    return loop.clock
