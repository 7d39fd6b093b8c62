"""Pages that are made of score rows: the rows of all their candidates, computed ahead."""

import numpy as np

from service.deployments.segment_rows import SegmentRows
from service.errors import DeadlineExpired, EngineFailed, RankingError
from service.scoring import Wanted


async def fill_rows(wanted: Wanted, segments: SegmentRows) -> str:
    """Have the rows that a page lacks computed and kept.

    Returns:
        How it went, as the field of a reply that counts it.
    """
    context, items = wanted.rows.context, wanted.rows.items
    space = segments.rows.space(context, wanted.caching.arm)
    try:
        computed = await segments.filler.fill(space, context, np.unique(items[items >= 0]))
    except (RankingError, EngineFailed, DeadlineExpired):
        return "failed"
    return "computed" if computed else "cached"
