"""Changes of models, made by every worker or by none."""

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct

from service.deployments.models import Models
from service.errors import (
    ChangeUnderWay,
    LoadRefused,
    ModelPinned,
    RankingError,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
    VersionNotLoaded,
)
from service.fleet import ASK_LIMIT_S, Fleet

LOAD, UNLOAD = "models.load", "models.unload"
REQUIRE_LOADED, ACTIVATE = "models.require_loaded", "models.activate"
LOAD_LIMIT_S = 3_600.0
"""A plan may have to be compiled; nobody waits on the way of a request."""

_REFUSALS = {
    refusal.code: refusal
    for refusal in (
        ChangeUnderWay,
        LoadRefused,
        ModelPinned,
        UnknownModel,
        UnknownVersion,
        VersionInUse,
        VersionNotLoaded,
    )
}


class _Wanted(Struct, frozen=True):
    model: str
    version: str


class _Answer(Struct, frozen=True):
    """How a change went in one worker; without a code, well."""

    code: str | None = None
    detail: str = ""


class ModelChanges:
    """Loads, activates and unloads in all workers. For one event loop.

    Args:
        models: This worker's.
        fleet: All workers; ours answers from now on as well.
    """

    def __init__(self, models: Models, fleet: Fleet) -> None:
        self._activations = models.activations
        self._fleet = fleet
        for command, change in {
            LOAD: models.load,
            UNLOAD: models.unload,
            REQUIRE_LOADED: models.require_loaded,
            ACTIVATE: models.activate,
        }.items():
            fleet.on(command, _answering(change))

    async def load(self, model: str, version: str) -> None:
        """Have a version stand by everywhere; where one worker cannot, in none.

        Raises:
            RankingError: why not, as `Models.load`; ChangeUnderWay.
        """
        wanted = _Wanted(model, version)
        with self._activations.changing():
            try:
                await self._ask(LOAD, wanted)
            except RankingError:
                # Those that have loaded it let it go again; the others have nothing to unload.
                await self._answers(UNLOAD, wanted)
                raise

    async def activate(self, model: str, version: str) -> None:
        """Move the default everywhere, now and for later starts.

        Raises:
            RankingError: why not, as `Models.activate`; ChangeUnderWay. Nothing was changed.
        """
        wanted = _Wanted(model, version)
        with self._activations.changing():
            await self._ask(REQUIRE_LOADED, wanted)
            # First for those that start: a worker that dies meanwhile comes back with it.
            self._activations.keep(model, version)
            await self._ask(ACTIVATE, wanted)

    async def unload(self, model: str, version: str) -> None:
        """Let a version go everywhere.

        Raises:
            RankingError: why not, as `Models.unload`; ChangeUnderWay.
        """
        with self._activations.changing():
            await self._ask(UNLOAD, _Wanted(model, version))

    async def _ask(self, command: str, wanted: _Wanted) -> None:
        answers = await self._answers(command, wanted)
        refused = [answer for answer in answers if answer.code is not None]
        if not refused:
            return
        detail = refused[0].detail
        if len(refused) < len(answers):
            detail = f"{len(refused)} of {len(answers)} workers: {detail}"
        raise _REFUSALS[str(refused[0].code)](detail)

    async def _answers(self, command: str, wanted: _Wanted) -> list[_Answer]:
        payload = msgspec.json.encode(wanted)
        limit_s = LOAD_LIMIT_S if command == LOAD else ASK_LIMIT_S
        answers = await self._fleet.ask(command, payload, limit_s=limit_s)
        return [msgspec.json.decode(answer, type=_Answer) for answer in answers]


def _answering(
    change: Callable[[str, str], Awaitable[None]],
) -> Callable[[bytes], Awaitable[bytes]]:
    """A change as a worker's answer to a command."""

    async def answer(payload: bytes) -> bytes:
        wanted = msgspec.json.decode(payload, type=_Wanted)
        try:
            await change(wanted.model, wanted.version)
        except RankingError as refusal:
            return msgspec.json.encode(_Answer(refusal.code, str(refusal)))
        return msgspec.json.encode(_Answer())

    return answer
