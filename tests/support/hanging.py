"""The ``podium`` command with engines that never answer once they have proved themselves."""

from contextlib import ExitStack
from typing import Any

from msgspec.structs import replace

from service.cli import main
from service.engines.loading import EngineLoader, LoadedEngines
from service.testing import FaultyEngine

load = EngineLoader.load
for_ever = ExitStack()


def load_hanging(self: EngineLoader, *arguments: Any) -> LoadedEngines:
    loaded = load(self, *arguments)
    engines = tuple(FaultyEngine(engine) for engine in loaded.engines)
    for engine in engines:
        for_ever.enter_context(engine.hold())
    return replace(loaded, engines=engines)


if __name__ == "__main__":
    EngineLoader.load = load_hanging  # type: ignore[assignment, method-assign]
    main()
