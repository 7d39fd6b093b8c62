"""Reads what the events added up to."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from experiments.definition import Experiment
from experiments.variant_statistics import VariantStatistics
from service.errors import ReportUnavailable
from service.events.names import COUNTS, GROUP, STREAM, statistics_key
from service.settings import EventSettings


class ReadStatistics:
    """The figures behind a report."""

    def __init__(self, client: Redis, settings: EventSettings) -> None:
        self._client = client
        self._timeout_s = settings.timeout_s

    async def read(self, experiment: Experiment) -> Mapping[str, VariantStatistics]:
        """The sums of each variant in the experiment's present phase.

        Raises:
            ReportUnavailable: the event server does not answer.
        """
        names = [variant.name for variant in experiment.variants]
        pipeline = self._client.pipeline(transaction=True)
        for name in names:
            pipeline.hgetall(statistics_key(experiment.key, experiment.phase, name))
        async with self._answer():
            hashes = await pipeline.execute()
        return {
            name: VariantStatistics.from_fields(_numbers(fields))
            for name, fields in zip(names, hashes, strict=True)
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


def _numbers(fields: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(n) for name, n in fields.items()}
