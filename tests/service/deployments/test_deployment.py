"""A deployment: what it says of itself, and where it keeps its scores."""

import json
import shlex

import pytest
from msgspec.structs import replace

from ranking_models.bundle import Bundle, write_bundle
from ranking_models.bundle.rewriting import contents_of
from ranking_models.gates import thresholds_for
from ranking_models.manifest import Gate, Lineage, ModeCost
from service.deployments import Deployments
from service.deployments.deployment import score_hash
from service.engines.link import EngineLink
from service.errors import NotReady
from service.messages import Candidate, RankRequest, UserRef
from service.settings import DeploymentSettings
from service.testing import FakeEngine, FaultyEngine
from tests.support.batches import random_batch
from tests.support.bundles import tiny_contents, write_tiny_segmented_bundle
from tests.support.gated import sound_figures
from tests.support.rankers import deployment_of

SURFACES = {"default": "ranker", "mail": "ranker", "popular": "popular"}


def test_what_served_is_told_by_the_precision_that_ran(tiny_bundle, clock):
    """An fp16 deployment without its device is served by fp32 on the CPU, and says so."""
    deployment = deployment_of(tiny_bundle, FakeEngine("cpu"), clock=clock)
    asked_for_fp16 = DeploymentSettings(model="tiny", precision="fp16")
    fell_back = replace(deployment, settings=asked_for_fp16)

    assert fell_back.served_by(FakeEngine("cpu").info).precision == "fp32"
    assert (fell_back.model.precision, fell_back.model.engine) == ("fp32", "cpu")


def test_scores_are_known_by_the_bundle_the_precision_and_the_engine(tiny_bundle):
    one = score_hash(tiny_bundle, "fp32", "onnxruntime-cpu")

    assert one == score_hash(tiny_bundle, "fp32", "onnxruntime-cpu")
    assert one != score_hash(tiny_bundle, "fp32", "tensorrt")
    assert not set(":{}") & set(one)


def test_a_key_changes_with_everything_that_the_scores_depend_on(tiny_bundle, clock):
    deployment = deployment_of(tiny_bundle, FakeEngine(), clock=clock)
    requests = [
        RankRequest(candidates=("i1", "i2")),
        RankRequest(candidates=("i2", "i1")),
        RankRequest(candidates=("i1", "i2"), user=UserRef(id="u1")),
        RankRequest(candidates=("i1", "i2"), context={"hour": 3}),
        RankRequest(candidates=("i1", "unlisted")),
        RankRequest(candidates=(Candidate(id="i1", features={"price": 3.0}), "i2")),
        RankRequest(candidates=("i1", Candidate(id="i2", features={"price": 3.0}))),
    ]

    rows = [deployment.features.encode(request) for request in requests]
    keys = {deployment.key(row, 0).text for row in rows}
    keys.add(deployment.key(rows[0], 1).text)

    assert len(keys) == len(requests) + 1
    assert deployment.key(rows[0], 0).text in keys


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("unlisted", "unlisted too"),
        (Candidate(id="i2", features={"price": 3}), Candidate(id="i2", features={"price": 3.0})),
        (
            Candidate(id="i2", features={"category": "hats"}),
            Candidate(id="i2", features={"category": "shoes"}),
        ),
        (
            Candidate(id="i2", features={"tags": ["old", "new"]}),
            Candidate(id="i2", features={"tags": ["new"]}),
        ),
        ("unlisted", Candidate(id="unlisted", features={"category": "hats"})),
    ],
    ids=[
        "unknown items",
        "spelling of a number",
        "unknown values",
        "unknown values in a list",
        "an override that changes nothing",
    ],
)
def test_candidates_that_the_model_cannot_tell_apart_share_an_entry(tiny_bundle, clock, one, other):
    deployment = deployment_of(tiny_bundle, FakeEngine(), clock=clock)

    first, second = (
        deployment.features.encode(RankRequest(candidates=("i1", item))) for item in (one, other)
    )

    assert deployment.key(first, 0) == deployment.key(second, 0)


def test_candidates_beside_an_item_are_ids_of_the_catalogue(tiny_bundle, clock):
    deployment = deployment_of(tiny_bundle, clock=clock)
    beside = deployment.candidates_of("i7")

    assert set(beside) <= {str(item) for item in tiny_bundle.item_ids} - {"i7"}
    assert deployment.candidates_of("unlisted") is None


def test_the_report_tells_what_serves_where_and_how_it_is(tiny_bundle, clock):
    first, second = FaultyEngine(FakeEngine("first")), FakeEngine("second")
    ranker = deployment_of(tiny_bundle, first, second, clock=clock)
    first.fail()
    ranker.chains[0].score(random_batch(5))
    deployments = Deployments([ranker, deployment_of(tiny_bundle, clock=clock, name="popular")])

    ranked, popular = deployments.reports(SURFACES)

    assert (ranked.surfaces, popular.surfaces) == (("default", "mail"), ("popular",))
    assert [(e.name, e.status, e.rows, e.failed_calls) for e in ranked.engines] == [
        ("first", "failing", 0, 1),
        ("second", "ready", 5, 0),
    ]
    assert (ranked.cache, ranked.items, ranked.users) == ("off", 50, 20)
    assert ranked.quality is not None
    assert (popular.engines, popular.quality, popular.queue_rows) == ((), None, 0)


def test_the_report_tells_whether_what_serves_ranks_like_its_reference(tmp_path, clock):
    """The gate of the precision that really runs: fp32 is a reference and has none."""
    passed = Gate(
        reference="fp32",
        evidence="100 rows",
        figures=sound_figures(),
        thresholds=thresholds_for("fp16"),
        failures=(),
    )
    forced = replace(passed, reference="big@0a1b2c3d", failures=("tau is low",), forced=True)
    contents = tiny_contents()
    graphs = contents.graphs | {"fp16": replace(contents.graphs["fp32"], gate=passed)}
    lineage = Lineage(method="pruned", parent="big@0a1b2c3d", options={}, gate=forced)
    path = write_bundle(tmp_path, replace(contents, graphs=graphs, lineage=lineage))
    bundle = Bundle.open(path)
    deployments = Deployments(
        [
            deployment_of(bundle, FakeEngine(precision="fp16"), clock=clock, name="half"),
            deployment_of(bundle, FakeEngine("whole"), clock=clock, name="whole"),
            deployment_of(bundle, clock=clock, name="popular"),
        ]
    )

    half, whole, popular = deployments.reports(SURFACES)

    assert (half.gate.verdict, half.gate.forced) == ("passed", False)
    assert half.gate.figures == sound_figures()
    assert whole.gate is None
    for report in (half, whole):
        pruned = report.lineage_gate
        assert (pruned.verdict, pruned.forced, pruned.failures) == ("failed", True, ("tau is low",))
        assert pruned.reference == "big@0a1b2c3d"
    assert (popular.gate, popular.lineage_gate) == (None, None)


def test_the_report_tells_what_the_caches_modes_cost_where_the_manifest_does(tmp_path, clock):
    unmeasured = Bundle.open(write_tiny_segmented_bundle(tmp_path))
    contents = contents_of(unmeasured)
    exact = ModeCost(mode="exact", rows_saved=0.0, figures={})
    figures = replace(contents.segments.figures, modes=(exact,), modes_on="100 rows")
    segments = replace(contents.segments, figures=figures)
    measured = Bundle.open(write_bundle(tmp_path, replace(contents, segments=segments)))
    deployments = Deployments(
        [
            deployment_of(measured, FakeEngine(), clock=clock, name="measured"),
            deployment_of(unmeasured, FakeEngine(), clock=clock, name="unmeasured"),
            deployment_of(measured, clock=clock, name="popular"),
        ]
    )

    told, nothing, popular = (report.cache_modes for report in deployments.reports(SURFACES))

    assert (told.measured_on, told.modes) == ("100 rows", (exact,))
    assert (nothing, popular) == (None, None)


def test_the_start_page_has_a_request_that_works_as_printed(tiny_bundle, clock):
    line = Deployments([deployment_of(tiny_bundle, clock=clock)]).example_request("http://x:1")

    words = shlex.split(line)

    body = json.loads(words[words.index("-d") + 1])
    assert words[2] == "http://x:1/v1/rank"
    assert set(body["candidates"]) <= {str(item) for item in tiny_bundle.item_ids}
    assert body["user"]["id"] in {str(user) for user in tiny_bundle.user_ids}


def test_the_start_page_names_the_engine_that_serves_and_those_that_should(tiny_bundle, clock):
    pending = EngineLink.pending(FakeEngine("tensorrt", precision="fp16").info)
    refused = EngineLink.pending(FakeEngine("triton").info)
    refused.refuse("it is away")
    deployment = deployment_of(tiny_bundle, pending, refused, FakeEngine("cpu"), clock=clock)

    summary = Deployments([deployment]).summary()

    model = f"tiny@{tiny_bundle.manifest.version}"
    assert summary == f"ranker ({model} fp32 on cpu; tensorrt is loading; triton is refused)"


async def test_stopping_ends_every_batcher(tiny_bundle, clock):
    deployment = deployment_of(tiny_bundle, FakeEngine(), clock=clock)

    await Deployments([deployment]).stop()

    with pytest.raises(NotReady):
        await deployment.batcher.score(random_batch(1), deadline=clock.now() + 1)


def test_another_deployment_takes_over_a_name_and_whoever_follows_hears_of_it(tiny_bundle, clock):
    first, other = (deployment_of(tiny_bundle, clock=clock, name=name) for name in "ab")
    deployments = Deployments([first, other])
    heard = []
    deployments.on_change(lambda: heard.append(deployments["a"]))

    second = replace(first, score_hash="another")
    deployments.replace([second])

    assert heard == [second]
    assert [*deployments.values()] == [second, other]
