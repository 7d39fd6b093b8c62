"""What every section needs: the device, the bundle, and rows to score."""

from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch
from service.clock import Clock
from service.doctor.proof.sections import Course
from service.engines.calibration import sample_of
from service.engines.memory import MemoryBudget
from service.engines.precisions import precision_of
from service.engines.rows import as_features
from service.engines.tensor_rt.bundles import NAME, Gpu, load_bundle
from service.engines.tensor_rt.plan import LoadedPlan
from service.settings import EngineSettings

BATCHES = 4
"""Different ones, scored in turn."""


class Effort(Struct, frozen=True, kw_only=True):
    """How much is measured."""

    seconds: float = 240.0
    """For all sections; one that has begun is finished."""
    score_rows: int = 8192
    """Random rows whose scores are compared."""
    cell_s: float = 0.5
    """For each of the timed batch sizes, at most."""
    cell_calls: int = 1000
    """Or so many calls."""
    warm_up_calls: int = 5
    """Of each slot, before every timing."""
    overlap_rounds: int = 50
    swap_calls: int = 300
    """Of each of two threads, before and after the swap."""


class Rig(Struct, frozen=True, kw_only=True):
    """A bundle and the GPU that it is proved on."""

    gpu: Gpu
    bundle: Bundle
    precisions: tuple[str, ...]
    """That TensorRT runs, in the bundle's order."""
    settings: EngineSettings
    """Its buckets are those that the bundle was checked with."""
    plans: Path
    """Empty at first."""
    clock: Clock
    course: Course
    effort: Effort

    @property
    def buckets(self) -> tuple[int, ...]:
        return self.settings.row_buckets

    def plans_of(self, precision: str) -> Path:
        """Its own folder, for measurements of one graph would speed up the build of the next."""
        return self.plans / precision

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.wall(), UTC)

    def load(
        self,
        precision: str,
        *,
        slots: int,
        graphs: bool = True,
        timed: bool = False,
        budget: MemoryBudget | None = None,
    ) -> LoadedPlan:
        """A precision on the device, as the service loads it; built if it is not there."""
        return load_bundle(
            self.bundle,
            precision,
            replace(self.settings, cuda_graphs=graphs),
            slots=slots,
            plans=self.plans_of(precision),
            budget=budget or MemoryBudget(self.settings.gpu_memory_fraction),
            created=self.now,
            gpu=self.gpu,
            timed=timed,
        )

    def batches(self, rows: int) -> list[FeatureBatch]:
        """Some batches of random users and items."""
        return batches_of(self.bundle, rows)


def batches_of(bundle: Bundle, rows: int) -> list[FeatureBatch]:
    """Some batches of random users and items."""
    sample = sample_of(bundle, seed=rows)
    return [as_features(sample(rows)) for _ in range(BATCHES)]


def precisions_of(bundle: Bundle, engine: str = NAME) -> tuple[str, ...]:
    """Those of a bundle's precisions that an engine runs as they are."""
    return tuple(p for p in bundle.manifest.precisions if precision_of(engine, p) == p)
