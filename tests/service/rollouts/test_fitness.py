"""Which variants may get traffic: warm before the first unit, and never with a failed gate."""

import pytest
from msgspec.structs import replace

from experiments.assignment import Assigner, ForceRefused, Units
from experiments.definition import Experiment, Variant
from ranking_models.bundle import Bundle, write_bundle
from ranking_models.gates import thresholds_for
from ranking_models.manifest import Gate, Lineage
from service.cache.rows import RowLevels
from service.engines.link import EngineLink
from service.engines.scored import EveryEngineFailed
from service.rollouts.fitness import Fitness
from service.settings import CacheSettings
from service.testing import FakeEngine, FaultyEngine, MemoryStore
from tests.support.batches import random_batch
from tests.support.bundles import tiny_contents, write_tiny_segmented_bundle
from tests.support.gated import sound_figures
from tests.support.rankers import deployment_of

EXPERIMENT = Experiment(
    key="e",
    variants=(
        Variant(name="old", share_bp=5000),
        Variant(name="new", share_bp=5000, deployment="new"),
    ),
)
FAILED = Gate(
    reference="fp32",
    evidence="100 rows",
    figures=sound_figures(),
    thresholds=thresholds_for("fp16"),
    failures=("tau is low",),
    forced=True,
)


def test_a_variant_waits_for_an_engine_of_its_chain(tiny_bundle, clock):
    pending = EngineLink.pending(FakeEngine("tensorrt").info)
    cold = deployment_of(tiny_bundle, pending, clock=clock, name="new")
    with_fallback = deployment_of(tiny_bundle, pending, FakeEngine("cpu"), clock=clock, name="new")

    why = Fitness({"new": cold}).problem(EXPERIMENT)
    assert why == "variant new, deployment new: no engine is warm: tensorrt is loading"
    assert Fitness({"new": with_fallback}).problem(EXPERIMENT) is None


def test_popularity_needs_no_engine(tiny_bundle, clock):
    popular = deployment_of(tiny_bundle, clock=clock, name="new")

    assert Fitness({"new": popular}).problem(EXPERIMENT) is None


def test_an_engine_that_fails_later_takes_nobody_out_of_its_phase(tiny_bundle, clock):
    engine = FaultyEngine(FakeEngine("only"))
    deployment = deployment_of(tiny_bundle, engine, clock=clock, name="new")
    fitness = Fitness({"new": deployment})
    assert fitness.problem(EXPERIMENT) is None

    engine.fail()
    with pytest.raises(EveryEngineFailed):
        deployment.chains[0].score(random_batch(5))

    assert fitness.problem(EXPERIMENT) is None
    why = fitness.problem(replace(EXPERIMENT, phase=2))
    assert why is not None
    assert "no engine is warm: only is failing" in why


def test_a_failed_gate_keeps_all_out_also_when_forced_and_later(tmp_path, clock):
    contents = tiny_contents()
    graphs = contents.graphs | {"fp16": replace(contents.graphs["fp32"], gate=FAILED)}
    bundle = Bundle.open(write_bundle(tmp_path, replace(contents, graphs=graphs)))
    half = deployment_of(bundle, FakeEngine(precision="fp16"), clock=clock, name="new")
    whole = deployment_of(bundle, FakeEngine(), clock=clock, name="new")
    serving = {"new": whole}
    fitness = Fitness(serving)
    assert fitness.problem(EXPERIMENT) is None

    serving["new"] = half

    assert fitness.problem(EXPERIMENT) == (
        "variant new, deployment new: the bundle failed the gate of fp16: tau is low"
    )


def test_one_that_was_promoted_needs_its_winner_only(tiny_bundle, clock):
    cold = deployment_of(
        tiny_bundle, EngineLink.pending(FakeEngine().info), clock=clock, name="new"
    )
    fitness = Fitness({"new": cold})
    won = replace(EXPERIMENT, state="promoted", promoted="old")

    assert fitness.problem(won) is None
    assert list(fitness.unfit(won)) == [("e", "new")]
    assert "no engine is warm" in str(fitness.problem(replace(won, promoted="new", phase=2)))


@pytest.mark.parametrize("state", ["draft", "aa", "paused", "stopped", "rolled_back"])
def test_what_is_not_fit_cannot_be_forced_before_it_starts_nor_after_it_ended(
    state, tiny_bundle, clock
):
    cold = deployment_of(
        tiny_bundle, EngineLink.pending(FakeEngine().info), clock=clock, name="new"
    )
    experiment = replace(EXPERIMENT, state=state)
    assigner = Assigner([experiment], unfit=Fitness({"new": cold}).unfit(experiment))

    with pytest.raises(ForceRefused, match="not ready: variant new, deployment new: no engine"):
        assigner.decide(Units("u"), forced={"e": "new"})
    (assignment,) = assigner.decide(Units("u"), forced={"e": "old"}).assignments
    assert (assignment.variant, assignment.reason) == ("old", "FORCED")


def test_a_model_that_failed_against_its_parent_is_unfit_in_every_precision(tmp_path, clock):
    lineage = Lineage(method="pruned", parent="big@0a1b2c3d", options={}, gate=FAILED)
    bundle = Bundle.open(write_bundle(tmp_path, replace(tiny_contents(), lineage=lineage)))
    deployment = deployment_of(bundle, FakeEngine(), clock=clock, name="new")

    why = Fitness({"new": deployment}).problem(EXPERIMENT)

    assert why is not None
    assert "against its parent: tau is low" in why


def test_phases_that_ended_are_forgotten(tiny_bundle, clock):
    engine = FaultyEngine(FakeEngine("only"))
    deployment = deployment_of(tiny_bundle, engine, clock=clock, name="new")
    fitness = Fitness({"new": deployment})
    fitness.problem(EXPERIMENT)
    fitness.forget(frozenset())
    engine.fail()
    with pytest.raises(EveryEngineFailed):
        deployment.chains[0].score(random_batch(5))

    assert fitness.problem(EXPERIMENT) is not None


@pytest.mark.parametrize("deployment", [None, "new"])
def test_a_variant_that_ranks_by_segment_needs_a_model_that_has_segments(
    tiny_bundle, tmp_path, clock, deployment
):
    """A variant without a deployment is served by whatever serves its surface."""
    by_segment = Variant(name="cheap", share_bp=5_000, cache="segment", deployment=deployment)
    control = Variant(name="control", share_bp=5_000)
    experiment = Experiment(key="e", variants=(control, by_segment))
    rows = RowLevels.over(MemoryStore(clock), CacheSettings(), clock)
    segmented = Bundle.open(write_tiny_segmented_bundle(tmp_path))

    without, with_segments = (
        deployment_of(bundle, FakeEngine(), clock=clock, name="new", rows=rows)
        for bundle in (tiny_bundle, segmented)
    )

    why = Fitness({"new": without}).problem(experiment)
    assert why is not None
    assert 'cache = "segment" needs the segments of users' in why
    assert Fitness({"new": with_segments}).problem(experiment) is None
