"""A ranker over a tiny bundle, with fake engines, a cache in memory, and time by hand."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from experiments.assignment import Assigner
from experiments.comparison import Comparison
from experiments.definition import Experiment
from experiments.source import FixedExperiments
from ranking_models.bundle import Bundle
from service.batching.batcher import Batcher
from service.cache import ScoreCache
from service.cache.rows import RowLevels
from service.cache.slate_worth import SlateWorth
from service.clock import Clock
from service.deployments import Deployment, Deployments
from service.deployments.deployment import score_hash
from service.deployments.segment_rows import segment_rows
from service.engines import Engine
from service.engines.chain import EngineChain
from service.engines.link import EngineLink
from service.events.exposures import Observation
from service.events.signing import SigningKeys
from service.events.slates import SlateIds
from service.events.tokens import ExposureTokens
from service.feature_names import FeatureNames
from service.features import BundleFeatures
from service.messages import RankReply, RankRequest
from service.ranker import Ranked, Ranker
from service.routing import Router
from service.scoring import SlateScorer
from service.settings import BatchPolicy, DeploymentSettings
from service.shadow.scorer import ShadowScorer
from service.slate import PopularityOrder
from service.telemetry import ExportSettings, Telemetry, create_telemetry
from tests.support.figures import page_of

KEYS = SigningKeys({"test": b"k" * 32}, "test")
TOKENS = ExposureTokens(KEYS)
POLICY = BatchPolicy()


class KeptExposures:
    """An exposure sink that keeps what it is given."""

    def __init__(self) -> None:
        self.recorded: list[Observation] = []

    def record(self, observation: Observation) -> None:
        self.recorded.append(observation)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Kitchen:
    """A ranker and everything that a test may want to look at or break."""

    def __init__(
        self,
        deployments: Iterable[Deployment],
        clock: Clock,
        *,
        experiments: Sequence[Experiment] = (),
        surfaces: Mapping[str, str] | None = None,
        allow_degraded: bool = True,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.deployments = Deployments([*deployments])
        self.clock = clock
        self.exposures = KeptExposures()
        self.comparisons: list[Comparison] = []
        self.telemetry = telemetry or quiet_telemetry(clock)
        self.shadow = ShadowScorer(
            self.deployments, clock, self.telemetry.metrics, tell=self.comparisons.append
        )
        """To be started by tests that want copies scored."""
        self.ranker = Ranker(
            router=Router(
                FixedExperiments(Assigner(experiments)),
                surfaces or {},
                next(iter(self.deployments)),
            ),
            deployments=self.deployments,
            feature_names=FeatureNames.of([b.schema for b in self.deployments.bundles]),
            scorer=SlateScorer(telemetry=self.telemetry, clock=clock),
            slates=SlateIds(KEYS),
            tokens=TOKENS,
            token_ttl_s=60.0,
            exposures=self.exposures,
            telemetry=self.telemetry,
            clock=clock,
            allow_degraded=allow_degraded,
            shadow=self.shadow,
        )

    async def rank(self, *candidates: str, **fields: Any) -> Ranked:
        """Rank without the work after the reply."""
        request = RankRequest(candidates=candidates or ("i1", "i2", "i3"), **fields)
        return await self.ranker.rank(request, arrived=self.clock.now())

    async def serve(self, *candidates: str, **fields: Any) -> RankReply:
        """Rank, and do what is left to do after the reply."""
        ranked = await self.rank(*candidates, **fields)
        await self.ranker.record(ranked)
        return ranked.reply

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample of the metrics page; None if it is not there."""
        page = page_of(self.telemetry)[0].decode()
        samples = (s for family in text_string_to_metric_families(page) for s in family.samples)
        return next((s.value for s in samples if s.name == name and s.labels == labels), None)


def deployment_of(
    bundle: Bundle,
    *engines: Engine | EngineLink,
    clock: Clock,
    name: str = "ranker",
    cache: ScoreCache | None = None,
    slate_worth: SlateWorth | None = None,
    policy: BatchPolicy = POLICY,
    rows: RowLevels | None = None,
    settings: DeploymentSettings | None = None,
    telemetry: Telemetry | None = None,
) -> Deployment:
    """A deployment over a chain of engines; without any it ranks by popularity.

    With `rows` and a bundle that has segments, the segment modes can be had.
    """
    chains = (EngineChain(engines, clock),) if engines else ()
    first = engines[0].info.name if engines else "popularity"
    on_batch = None if telemetry is None else telemetry.batch
    batcher = Batcher(chains, policy, clock, on_batch=on_batch) if chains else None
    features, named = BundleFeatures(bundle), score_hash(bundle, "fp32", first)
    segments = None
    if rows is not None and batcher is not None:
        segments = segment_rows(
            bundle, features, batcher, rows, name=name, score_hash=named, clock=clock
        )
    return Deployment(
        name=name,
        settings=settings or DeploymentSettings(model="tiny", cache="exact" if cache else "off"),
        bundle=bundle,
        features=features,
        popularity=PopularityOrder(bundle.popularity),
        score_hash=named,
        batcher=batcher,
        chains=chains,
        segments=segments,
        cache=cache,
        slate_worth=slate_worth,
    )


def quiet_telemetry(clock: Clock) -> Telemetry:
    """Telemetry that counts and sends nothing."""
    return create_telemetry(
        sample_ratio=0.0, export=ExportSettings(), surfaces=(), version="0", clock=clock
    )
