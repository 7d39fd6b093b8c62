"""From the sink to the sums: comparisons of shadow, and the credit of interleaved slates."""

import numpy as np
import pytest

from experiments.comparison import Comparison, comparison_sums, summary
from experiments.definition import INTERLEAVED, Experiment, Variant
from experiments.events import Arm, unit_digest
from experiments.interleaving import preference
from experiments.variant_statistics import cell_of
from service.events.aggregation import Aggregator
from service.events.exposures import StreamExposureSink
from service.events.statistics import ReadStatistics
from service.events.tokens import Claims, items_digest
from service.messages import FeedbackEvent
from tests.service.events.conftest import ITEMS, WALL

DUEL = Experiment(
    key="duel",
    method="interleave",
    variants=(
        Variant(name="control", share_bp=5000, deployment="a"),
        Variant(name="treatment", share_bp=5000, deployment="b"),
    ),
)


@pytest.fixture
async def aggregated(client, settings, clock, until):
    """Reads the sums once so many entries have been added up."""
    aggregator = Aggregator(client, settings, clock)
    await aggregator.start()

    async def read(entries):
        await until(lambda: aggregator.counts.applied >= entries)
        assert aggregator.counts.unreadable == 0
        return await ReadStatistics(client, settings).read(DUEL)

    yield read
    await aggregator.stop()


async def test_comparisons_reach_the_sums_of_the_variant_that_did_not_serve(log, aggregated):
    sink = StreamExposureSink(log, flush_s=0.001)
    await sink.start()
    for n in range(40):
        sink.record(
            Comparison(
                experiment="duel",
                phase=1,
                variant="treatment",
                reference="control",
                at=WALL,
                overlap=1.0 if n % 4 else 0.6,
                kendall_tau=-0.5 if n % 2 else 1.0,
                drift_max=0.02,
                drift_mean=0.001,
                latency_ms=2.0,
                reference_latency_ms=None,
                unit=unit_digest(f"u{n}"),
            )
        )
    await sink.stop()

    statistics = await aggregated(40)

    found = summary("control", comparison_sums(statistics["treatment"].comparisons)["control"])
    assert found.compared == 40
    assert found.overlap.value == pytest.approx(0.9)
    assert found.kendall_tau.value == pytest.approx(0.25)
    assert found.drift_mean.value == pytest.approx(0.001)
    assert statistics["treatment"].users == statistics["treatment"].exposures == 0
    assert statistics["control"].comparisons == {}


async def test_clicks_are_credited_to_the_team_of_the_item_whatever_else_is_clicked(
    intake, tokens, slates, aggregated
):
    events = []
    for n in range(30):
        slate = slates.new(WALL)
        unit = unit_digest(f"u{n}")
        token = tokens.sign(
            Claims(
                slate_id=slate,
                issued=int(WALL),
                expires=int(WALL) + 3600,
                arms=(Arm("duel", 1, INTERLEAVED, unit),),
                items=items_digest(ITEMS),
                teams=("control", "treatment"),
                picks="101",
            )
        )
        # The first item, which is the treatment's, always; the second in every third slate.
        for place in [0, 1] if n % 3 == 0 else [0]:
            events.append(
                FeedbackEvent(
                    event_id=f"{n}-{place}",
                    type="click",
                    slate_id=slate,
                    item_id=ITEMS[place],
                    position=place + 1,
                    timestamp="2025-06-15T15:06:40Z",
                    exposure=token,
                )
            )
    results = (await intake.accept(events)).results
    assert {result.status for result in results} == {"accepted"}

    statistics = (await aggregated(len(events)))[INTERLEAVED]

    wins = statistics.team_wins
    assert {name: int(cells.sum()) for name, cells in wins.items()} == {
        "control": 10,
        "treatment": 30,
    }
    assert wins["treatment"][cell_of(unit_digest("u4"))] >= 1
    found = preference(wins["control"], wins["treatment"])
    assert found.delta.value == pytest.approx(0.5)
    assert np.sum(wins["treatment"]) == statistics.clicks - 10
