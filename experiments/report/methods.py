"""What is shown where a plain comparison of two arms would be wrong, or is not the question."""

from experiments.aa import self_check
from experiments.bandit import refuse_plain_tests
from experiments.definition import INTERLEAVED, Experiment, Variant
from experiments.interleaving import preference
from experiments.report.document import Interleaved, SelfChecked
from experiments.report.inputs import CONFIDENCE, NOTHING, Case
from experiments.report.variants import latency_of, variant_report
from experiments.stats import NotEnoughData

DEALS, LOOKS = 200, 10
"""Of the self-check: rates to within 3 points, and no more tests than a page can wait for."""

_INTERLEAVED = (
    "both rankers are in every slate, so there are no two arms: no split to check, no CTR of "
    "either, and each slate waits for both; what counts is whose picks are clicked"
)


def why_not_plain(experiment: Experiment) -> str | None:
    """Why variants must not be compared by their sums; None if they may be."""
    if experiment.method == "interleave" and experiment.state != "aa":
        return _INTERLEAVED
    return refuse_plain_tests(experiment)


def interleaved(case: Case) -> Interleaved | None:
    """The credit of both rankers; None where slates are split between them."""
    experiment = case.experiment
    if experiment.method != "interleave" or experiment.state == "aa":
        return None
    sums = case.sums.get(INTERLEAVED, NOTHING)
    names = [variant.name for variant in experiment.variants]
    credit = [sums.team_wins.get(name, NOTHING.cell_clicks) for name in names]
    missing, found = None, None
    try:
        found = preference(credit[0], credit[1], confidence=CONFIDENCE)
    except NotEnoughData as reason:
        missing = str(reason)
    arm = Variant(name=INTERLEAVED, share_bp=10_000)
    return Interleaved(
        slates=variant_report(arm, sums, case, latency=latency_of(sums), difference=None),
        wins={name: int(own.sum()) for name, own in zip(names, credit, strict=True)},
        preference=found,
        missing=missing,
        why=_INTERLEAVED,
    )


def self_checked(case: Case) -> SelfChecked | None:
    """The false-positive rates of our tests on an A/A phase; None in any other state."""
    if case.experiment.state != "aa":
        return None
    if case.beside.self_check is not None:
        return case.beside.self_check
    try:
        samples = [own.ctr_sample for own in case.by_variant]
        check = self_check(samples, deals=DEALS, looks=LOOKS, confidence=CONFIDENCE)
    except NotEnoughData as reason:
        return SelfChecked(check=None, missing=str(reason))
    return SelfChecked(check=check)
