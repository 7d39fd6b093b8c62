"""The chains of all instances of a deployment, while some of their engines are still on their way.

Cold start: an engine that takes minutes to compile must not keep the service
from answering, and one that this machine cannot run must not keep it from
starting. So a chain is ready with the first engine that has proved itself.
Slow ones are loaded meanwhile on a thread, and put into their places when
they are there: the next batch goes to them, and no batch is called back. One
on a server that is away is loaded when that server is back.
"""

import logging
import threading
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from ranking_models.bundle import Bundle
from service.breaker import Breaker
from service.clock import Clock
from service.engines import Engine
from service.engines.chain import EngineChain
from service.engines.golden import Golden
from service.engines.link import EngineLink
from service.engines.loading import (
    ON_A_DEVICE,
    ON_THE_CPU,
    SLOW,
    TRITON,
    EngineLoader,
    LoadedEngines,
    expected_info,
)
from service.engines.precisions import precision_of
from service.errors import StartupError

_log = logging.getLogger(__name__)


class EngineChoice(Struct, frozen=True):
    """An engine of a chain, and the precision that it runs there."""

    name: str
    precision: str
    shared: bool = False
    """Whether the engine process runs it, for all workers."""


def choices(
    engine_names: Sequence[str], precision: str, *, shared: bool = False
) -> tuple[EngineChoice, ...]:
    """The engines of a deployment that asks for ``precision``, with what each of them runs.

    With an engine process that one has the first engine, and all that need a
    device. The workers have the others; where that leaves them none, the last
    one that needs no device too: without that process they must not stand still.
    """
    own = tuple(EngineChoice(name, precision_of(name, precision)) for name in engine_names)
    if not shared:
        return own
    chain = tuple(
        EngineChoice(choice.name, choice.precision, _belongs_to_all(choice.name, place))
        for place, choice in enumerate(own)
    )
    on_the_cpu = [choice for choice in own if choice.name in ON_THE_CPU]
    return chain + tuple(on_the_cpu[-1:] if all(choice.shared for choice in chain) else ())


def _belongs_to_all(engine: str, place: int) -> bool:
    return engine in ON_A_DEVICE or (place == 0 and engine in ON_THE_CPU)


class LoadedChains:
    """One chain per instance, and what loads into them. Opened and closed as one.

    Args:
        loader: Loads the engines.
        bundle: Theirs.
        engines: In the order of the chain.
        instances: Chains to make.
        clock: Theirs.

    Raises:
        StartupError: no engine of the chain can serve; has the reason of each.
    """

    def __init__(
        self,
        loader: EngineLoader,
        bundle: Bundle,
        engines: Sequence[EngineChoice],
        instances: int,
        clock: Clock,
    ) -> None:
        self._loader, self._bundle, self._instances = loader, bundle, instances
        self._clock, probe_s = clock, loader.settings.breaker_probe_s
        self._places = [_Place(choice, self._links(choice, clock), probe_s) for choice in engines]
        self.chains = tuple(
            EngineChain([place.links[i] for place in self._places], clock, loader.settings)
            for i in range(instances)
        )
        self._changing = threading.Lock()
        self._closed = False
        self._all_there = threading.Event()
        self._load()

    def loaded(self, place: int) -> LoadedEngines | None:
        """The engines at this place of every chain; None if they are not there."""
        return self._places[place].loaded

    @property
    def refusals(self) -> dict[str, str]:
        """Engines that cannot serve, and why."""
        return {p.choice.name: p.refusal for p in self._places if p.refusal is not None}

    def wait(self) -> None:
        """Until no engine is on its way any more."""
        self._all_there.wait()

    def look_again(self) -> None:
        """Load what another server refused, on a thread, if it is time to ask that server again.

        It may just have been away. What this machine cannot run it will not run a second later.
        """
        now = self._clock.now()
        for place in self._places:
            if not self._closed and place.may_be_back(now):
                threading.Thread(
                    target=self._fill, args=(place,), name="podium-loading", daemon=True
                ).start()

    def close(self) -> bool:
        """Close every engine; one that is on its way, when it is there.

        Returns:
            Whether all are closed. An engine that is still being called, for it hangs or
            is just being probed, is not freed under its call: ask again later.
        """
        with self._changing:
            self._closed = True
            closed = [place.close() for place in self._places]
            return all(closed)

    def _links(self, choice: EngineChoice, clock: Clock) -> tuple[EngineLink, ...]:
        bundle, settings = self._bundle, self._loader.settings
        info = expected_info(choice.name, bundle, choice.precision, settings)
        info = replace(info, shared=choice.shared)
        rows, scores = bundle.golden
        tolerance = bundle.manifest.precisions[choice.precision].tolerance
        golden = Golden(rows=rows, scores=scores, tolerance=tolerance)
        return tuple(
            EngineLink.pending(info, golden=golden, settings=settings, clock=clock)
            for _ in range(self._instances)
        )

    def _load(self) -> None:
        """Load what is quick, then as much of the rest as it takes to serve, the others behind."""
        later = [p for p in self._places if p.choice.shared or p.choice.name in SLOW]
        for place in self._places:
            if place not in later:
                self._fill(place)
        while later and not self._serves():
            self._fill(later.pop(0))
        if not self._serves():
            raise StartupError("; ".join(self.refusals.values()))
        if later:
            work = threading.Thread(target=self._load_behind, args=(later,), daemon=True)
            work.name = "podium-loading"
            work.start()
        else:
            self._all_there.set()

    def _load_behind(self, places: list["_Place"]) -> None:
        for place in places:
            if not self._closed:
                self._fill(place)
        self._all_there.set()

    def _fill(self, place: "_Place") -> None:
        choice = place.choice
        load = self._loader.load_shared if choice.shared else self._loader.load
        try:
            loaded = load(choice.name, self._bundle, choice.precision, self._instances)
            place.prepare(loaded)
        except StartupError as error:
            place.refuse(str(error), self._clock.now())
            return
        except Exception as error:  # whatever a runtime raises: the other engines can serve
            _log.exception("the engine %s cannot be loaded", choice.name)
            place.refuse(repr(error), self._clock.now())
            return
        with self._changing:
            if self._closed:
                loaded.close()
            else:
                place.install(loaded)

    def _serves(self) -> bool:
        return any(place.loaded is not None for place in self._places)


class _Place:
    """One engine of the chain, in all instances."""

    def __init__(self, choice: EngineChoice, links: tuple[EngineLink, ...], probe_s: float) -> None:
        self.choice, self.links = choice, links
        self.loaded: LoadedEngines | None = None
        self._open: list[tuple[EngineLink, Engine]] = []
        self.refusal: str | None = None
        self._pace = Breaker(failures=1, probe_s=probe_s)
        self._is_due = False  # nobody is loading it, so that somebody may when it is time

    def may_be_back(self, now: float) -> bool:
        """Whether its server should be asked again now; who hears yes has to."""
        if not self._is_due or not self._pace.admits(now):
            return False
        self._is_due = False
        return True

    def prepare(self, loaded: LoadedEngines) -> None:
        """Let each engine say what it will be held to; where one cannot, all are closed."""
        try:
            for link, engine in zip(self.links, loaded.engines, strict=True):
                assert link.golden is not None, "links of a bundle have its golden rows"
                link.golden = link.golden.own(engine)
        except BaseException:
            loaded.close()
            raise

    def install(self, loaded: LoadedEngines) -> None:
        self.loaded, self.refusal = loaded, None
        self._open = list(zip(self.links, loaded.engines, strict=True))
        for link, engine in self._open:
            link.install(engine)

    def refuse(self, reason: str, now: float) -> None:
        self.refusal = reason
        for link in self.links:
            link.refuse(reason)
        self._pace.trip(now)
        self._is_due = self.choice.name == TRITON

    def close(self) -> bool:
        """Take the engines out, and close those that nobody calls. Are all closed?"""
        self.loaded = None
        called = []
        for link, engine in self._open:
            link.retire()
            if link.is_calling(engine):
                called.append((link, engine))
            else:
                engine.close()
        self._open = called
        return not called
