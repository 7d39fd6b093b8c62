"""Experiments that run side by side although two files together define some that cannot."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from experiments.definition import Experiment
from experiments.together import check_together


def kept_apart(
    experiments: Sequence[Experiment], began: Mapping[str, float]
) -> tuple[tuple[Experiment, ...], str | None]:
    """With those stopped that cannot run beside the others; the one that began first stays.

    Changes that lead here are refused, but a replica whose file is older than
    another's may still be led here. It must go on all the same: the next change
    may be a rollback.

    Args:
        experiments: Those that are to be in force.
        began: When the state of each began; unknown is earliest.

    Returns:
        The experiments in their order, and what is wrong; None if they fit as they are.
    """
    try:
        check_together(experiments)
    except ValueError as problem:
        trouble = str(problem)
    else:
        return tuple(experiments), None
    fitting: list[Experiment] = []
    for experiment in sorted(experiments, key=lambda e: began.get(e.key, 0.0)):
        try:
            check_together([*fitting, experiment])
            fitting.append(experiment)
        except ValueError:
            fitting.append(replace(experiment, state="stopped", promoted=None))
    order = {experiment.key: place for place, experiment in enumerate(experiments)}
    return tuple(sorted(fitting, key=lambda e: order[e.key])), trouble
