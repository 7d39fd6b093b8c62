"""Reads what the events added up to."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from experiments.definition import INTERLEAVED, Experiment
from experiments.variant_statistics import VariantStatistics
from service.errors import ReportUnavailable
from service.events.names import COUNTS, GROUP, STREAM, statistics_key
from service.settings import EventSettings

TOTALS = ("users", "impressions", "clicks")


class ReadStatistics:
    """The figures behind a report."""

    def __init__(self, client: Redis, settings: EventSettings) -> None:
        self._client = client
        self._timeout_s = settings.timeout_s

    async def read(
        self, experiment: Experiment, phase: int | None = None
    ) -> Mapping[str, VariantStatistics]:
        """The sums of each variant in a phase, by default the experiment's present one.

        Raises:
            ReportUnavailable: the event server does not answer.
        """
        phase = experiment.phase if phase is None else phase
        return (await self.read_phases(experiment, [phase]))[phase]

    async def read_phases(
        self, experiment: Experiment, phases: Sequence[int]
    ) -> Mapping[int, Mapping[str, VariantStatistics]]:
        """The sums of each variant in each of some phases, all of one moment.

        Variants are those of the definition and, where slates are interleaved,
        `experiments.definition.INTERLEAVED`. A phase without any event is all zero.

        Raises:
            ReportUnavailable: the event server does not answer.
        """
        names = [variant.name for variant in experiment.variants]
        if experiment.method == "interleave":
            names.append(INTERLEAVED)
        wanted = [(phase, name) for phase in dict.fromkeys(phases) for name in names]
        pipeline = self._client.pipeline(transaction=True)
        for phase, name in wanted:
            pipeline.hgetall(statistics_key(experiment.key, phase, name))
        async with self._answer():
            hashes = await pipeline.execute()
        # Thousands of fields each: the event loop has better use for the time.
        return await asyncio.to_thread(_by_phase, wanted, hashes)

    async def totals(
        self, experiments: Sequence[Experiment]
    ) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Experiment and variant to `TOTALS` of the present phase: a small read.

        Raises:
            ReportUnavailable: the event server does not answer.
        """
        arms = [(e.key, e.phase, v.name) for e in experiments for v in e.variants]
        pipeline = self._client.pipeline(transaction=True)
        for arm in arms:
            pipeline.hmget(statistics_key(*arm), TOTALS)
        async with self._answer():
            found = await pipeline.execute()
        return {
            (key, variant): {name: int(n or 0) for name, n in zip(TOTALS, sums, strict=True)}
            for (key, _, variant), sums in zip(arms, found, strict=True)
        }

    async def counts(self) -> Mapping[str, int]:
        """How many events came in, by what became of them; see `names.COUNTS`.

        Raises:
            ReportUnavailable: the event server does not answer.
        """
        async with self._answer():
            fields: Any = await self._client.hgetall(COUNTS)
        return _numbers(fields)

    async def backlog(self) -> int:
        """Entries of the stream that are not added up yet; rather too many than too few.

        Raises:
            ReportUnavailable: the event server does not answer.
        """
        async with self._answer():
            entries = int(await self._client.xlen(STREAM))
            if not entries:
                return 0
            groups: Any = await self._client.xinfo_groups(STREAM)
        group = next((group for group in groups if group["name"] == GROUP.encode()), None)
        if group is None or group["lag"] is None:
            return entries
        return int(group["pending"]) + int(group["lag"])

    @asynccontextmanager
    async def _answer(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError, TimeoutError) as failure:
            raise ReportUnavailable(
                f"the event server does not answer ({type(failure).__name__})"
            ) from failure


def _by_phase(
    wanted: Sequence[tuple[int, str]], hashes: Sequence[Mapping[bytes, bytes]]
) -> dict[int, dict[str, VariantStatistics]]:
    sums: dict[int, dict[str, VariantStatistics]] = {}
    for (phase, name), fields in zip(wanted, hashes, strict=True):
        sums.setdefault(phase, {})[name] = VariantStatistics.from_fields(_numbers(fields))
    return sums


def _numbers(fields: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(n) for name, n in fields.items()}
