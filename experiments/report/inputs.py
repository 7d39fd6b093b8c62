"""What a report is made of besides the sums of the present phase."""

from collections.abc import Mapping

from msgspec import Struct

from experiments.decisions import DecisionRecord
from experiments.definition import Experiment
from experiments.report.document import SelfChecked
from experiments.standing import Standing
from experiments.variant_statistics import VariantStatistics

Sums = Mapping[str, VariantStatistics]
"""Variant name to sums; a variant without events may be absent."""

NOTHING = VariantStatistics.from_fields({})
CONFIDENCE = 0.95


class Beside(Struct, frozen=True, kw_only=True):
    """What whoever runs the experiment knows of it; all of it may be missing."""

    definition: Experiment | None = None
    """As it is written, without its standing."""
    standing: Standing | None = None
    unready: str | None = None
    """Why nobody is assigned although the state says so."""
    decisions: tuple[DecisionRecord, ...] = ()
    """Of the audit log, newest first."""
    decisions_missing: str | None = None
    """Why there are none; None if they were read."""
    shares: Mapping[int, Mapping[str, int]] = {}
    """Earlier phases of the same split, and what share each variant had
    (`experiments.bandit.shares_by_phase`)."""
    earlier: Mapping[int, Sums] = {}
    """The sums of these phases, and of the A/A phase before."""
    price_per_hour: float | None = None
    """Of one engine, in any currency."""
    self_check: SelfChecked | None = None
    """Of this phase, made a moment ago; None has it made anew where one is needed."""
    with_statistics: bool = False
    """Whether the report is to carry the sums that its figures come from."""


class Case(Struct, frozen=True, kw_only=True):
    """Everything that one report is made of."""

    experiment: Experiment
    """As it is in force."""
    sums: Sums
    as_of: float
    backlog: int
    beside: Beside

    def of(self, name: str) -> VariantStatistics:
        """The sums of a variant in the present phase."""
        return self.sums.get(name, NOTHING)

    @property
    def by_variant(self) -> tuple[VariantStatistics, ...]:
        """In the order of the definition, the control first."""
        return tuple(self.of(variant.name) for variant in self.experiment.variants)

    @property
    def before(self) -> tuple[int, Sums] | None:
        """The A/A phase before and its sums."""
        standing = self.beside.standing
        phase = None if standing is None else standing.pre_phase
        if phase is None or phase not in self.beside.earlier:
            return None
        return phase, self.beside.earlier[phase]

    @property
    def same_split(self) -> tuple[int, ...]:
        """Phases of this split in which units were split, the present one first."""
        present = self.experiment.phase
        if self.experiment.state == "aa":
            return (present,)  # served all alike: not to be pooled with any other
        others = [p for p in self.beside.shares if p != present and p in self.beside.earlier]
        return (present, *sorted(others, reverse=True))

    def phase_sums(self, phase: int) -> Sums:
        return self.sums if phase == self.experiment.phase else self.beside.earlier[phase]
