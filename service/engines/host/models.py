"""What is loaded in the engine process: each graph once, for as long as a slot wants it."""

import threading
from collections.abc import Callable

from service.engines.host.schedule import Model
from service.engines.host.wire import Wanted
from service.engines.loading import LoadedEngines
from service.errors import StartupError


class Held:
    """A graph that is loaded, or about to be."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.holders = 0
        self.loading = threading.Lock()
        self.loaded: LoadedEngines | None = None
        self.model: Model | None = None
        self.refusal: str | None = None


class Models:
    """From any thread.

    Args:
        load: Loads the engines of a graph, each of which has proved itself; raises
            StartupError.
    """

    def __init__(self, load: Callable[[Wanted], LoadedEngines]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._held: dict[Wanted, Held] = {}

    def hold(self, wanted: Wanted) -> Held:
        """A graph's engines, loaded by the first who asks while the others wait.

        Raises:
            StartupError: they cannot be had; says why. Who asks later may have more luck.
        """
        with self._lock:
            held = self._held.setdefault(wanted, Held(wanted))
            held.holders += 1
        with held.loading:
            if held.loaded is None and held.refusal is None:
                self._fill(held)
        if held.refusal is not None:
            self.release(held)
            raise StartupError(held.refusal)
        return held

    def release(self, held: Held) -> bool:
        """One slot fewer wants it; with the last one the engines are closed.

        Returns:
            Whether it was the last one. No call may be under way then.
        """
        with self._lock:
            held.holders -= 1
            if held.holders:
                return False
            del self._held[held.wanted]
        if held.loaded is not None:
            held.loaded.close()
        return True

    def _fill(self, held: Held) -> None:
        try:
            loaded = self._load(held.wanted)
        except StartupError as error:
            held.refusal = str(error)
        except Exception as error:  # whatever a runtime raises: other models are well
            held.refusal = repr(error)
        else:
            held.loaded, held.model = loaded, Model(loaded.engines)
