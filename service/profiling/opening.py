"""Contenders loaded: each of them gives the golden scores before it is measured."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from ranking_models.bundle import Bundle
from service.clock import Clock
from service.engines import Engine
from service.engines.loading import EngineLoader
from service.errors import StartupError
from service.profiling.values import Contender, LeftOut
from service.settings import EngineSettings


class Opened(Struct, frozen=True, kw_only=True):
    """A contender that is loaded and gave the golden scores."""

    contender: Contender
    engine: Engine
    golden_difference: float
    load_s: float


class Opener:
    """Loads contenders of one bundle, all of them side by side.

    Args:
        bundle: Whose graphs.
        settings: How engines use the machine, but for threads, split and calibration.
        plans: The folder of compiled TensorRT plans.
        clock: For what loading takes, and the dates of plans.
    """

    def __init__(self, bundle: Bundle, settings: EngineSettings, plans: Path, clock: Clock) -> None:
        self._bundle, self._settings, self._plans, self._clock = bundle, settings, plans, clock
        # One loader for all with the same settings: it accounts for a device's memory.
        self._loaders: dict[EngineSettings, EngineLoader] = {}

    def absent(self, engine: str) -> str | None:
        """Why this machine cannot run an engine, whatever the model; None if it may."""
        return self._loader(self._settings).absent(engine)

    def open(self, contender: Contender) -> Opened | LeftOut:
        """Load a contender; one that cannot be loaded or scores otherwise is left out."""
        started = self._clock.now()
        loader = self._loader(settings_of(contender, self._settings))
        try:
            loaded = loader.load(contender.engine, self._bundle, contender.precision, 1)
        except StartupError as error:
            return LeftOut(what=contender.name, reason=str(error))
        (engine,) = loaded.engines
        return Opened(
            contender=contender,
            engine=engine,
            golden_difference=_golden_difference(engine, self._bundle),
            load_s=self._clock.now() - started,
        )

    def _loader(self, settings: EngineSettings) -> EngineLoader:
        if settings not in self._loaders:
            self._loaders[settings] = EngineLoader(settings, self._plans, self._clock)
        return self._loaders[settings]


def settings_of(contender: Contender, settings: EngineSettings) -> EngineSettings:
    """How this contender uses the machine; nobody asks it for its best batch size."""
    return msgspec.structs.replace(
        settings,
        threads=contender.threads or 1,
        split="on" if contender.split else "off",
        calibrate=False,
    )


def close_all(opened: Iterable[Opened]) -> None:
    """Free what they hold."""
    for one in opened:
        one.engine.close()


def _golden_difference(engine: Engine, bundle: Bundle) -> float:
    """Largest difference from a golden score; that it is small enough, the loader has checked."""
    rows, expected = bundle.golden
    count = min(rows.rows, engine.info.max_batch_rows)
    return float(np.abs(engine.score(rows.take(slice(count))) - expected[:count]).max())
