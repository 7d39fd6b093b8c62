"""The ``podium`` command with engines that never answer once they have proved themselves."""

from contextlib import ExitStack
from typing import Any

from service.cli import main
from service.deployments import loading
from service.engines.chain import EngineChain
from service.testing import FaultyEngine

load_chain = loading.load_chain
for_ever = ExitStack()


def load_hanging_chain(*arguments: Any) -> EngineChain:
    engines = [FaultyEngine(engine) for engine in load_chain(*arguments).engines]
    for engine in engines:
        for_ever.enter_context(engine.hold())
    return EngineChain(engines, arguments[-1])


if __name__ == "__main__":
    loading.load_chain = load_hanging_chain
    main()
