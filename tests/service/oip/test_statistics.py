"""Statistics are sums over the workers that answer."""

import msgspec

from service.fleet import Alone
from service.oip.models import Served
from service.oip.statistics import Duration, InferenceStats, ModelStats, Statistics


class Models:
    """Of a worker that has none itself."""

    def all(self):
        return iter(())


class Others(Alone):
    """Workers that answer with these."""

    def __init__(self, *answers):
        super().__init__()
        self._others = [msgspec.json.encode(answer) for answer in answers]

    async def ask(self, command, payload=b"", *, limit_s=60.0):
        return [*await super().ask(command, payload, limit_s=limit_s), *self._others]


def stats(version="1", rows=10, successes=2, last=5):
    times = InferenceStats(success=Duration(successes, 100 * successes), queue=Duration(2, 7))
    return ModelStats(
        name="ranker",
        version=version,
        last_inference=last,
        inference_count=rows,
        execution_count=1,
        inference_stats=times,
    )


async def test_workers_are_added_up_version_by_version():
    fleet = Others([stats(), stats("2", rows=3)], [stats(rows=5, successes=1, last=9)])

    one, other = await Statistics(Models(), fleet).read()

    assert (one.version, one.inference_count, one.execution_count) == ("1", 15, 2)
    assert (one.last_inference, one.inference_stats.success) == (9, Duration(3, 300))
    assert one.inference_stats.queue == Duration(4, 14)
    assert (other.version, other.inference_count) == ("2", 3)


async def test_one_version_can_be_asked_for():
    second = Served(name="ranker", version="2", versions=("2",), deployment=None)

    (found,) = await Statistics(Models(), Others([stats(), stats("2")])).read([second])

    assert found.version == "2"
