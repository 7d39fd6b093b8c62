"""What is well, what is degraded, and whether traffic should come."""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from service.no_folders import without_folders


class ComponentHealth(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of one part, and what that means for callers."""

    status: Literal["ok", "degraded", "failed"]
    """failed: without it some rankings are refused."""
    detail: str | None = None


class Readiness(Struct, frozen=True, kw_only=True):
    """The answer of ``/health/ready``.

    ``degraded`` still takes traffic: rankings go on, something beside them
    does not. ``not_ready`` and ``draining`` want it to go elsewhere.
    """

    status: Literal["ready", "degraded", "not_ready", "draining"]
    components: dict[str, ComponentHealth]

    @property
    def takes_traffic(self) -> bool:
        return self.status in ("ready", "degraded")


class Health:
    """Asks every component how it is. Engines are warm before the first request is taken."""

    def __init__(self, probes: Mapping[str, Callable[[], ComponentHealth]]) -> None:
        self._probes = dict(probes)
        self._draining = False
        self._on_drain: list[Callable[[], None]] = []

    @property
    def is_draining(self) -> bool:
        return self._draining

    def drain(self) -> None:
        """From now on new traffic should go elsewhere."""
        self._draining = True
        for told in self._on_drain:
            told()

    def on_drain(self, told: Callable[[], None]) -> None:
        """Be told when a drain begins: replies that never end must do so then."""
        self._on_drain.append(told)

    def readiness(self) -> Readiness:
        components = {name: _told(probe()) for name, probe in self._probes.items()}
        found = {component.status for component in components.values()}
        if self._draining:
            return Readiness(status="draining", components=components)
        if "failed" in found:
            return Readiness(status="not_ready", components=components)
        return Readiness(
            status="degraded" if "degraded" in found else "ready", components=components
        )


def _told(found: ComponentHealth) -> ComponentHealth:
    """As everybody may read it: this asks for no key."""
    if found.detail is None:
        return found
    return replace(found, detail=without_folders(found.detail))
