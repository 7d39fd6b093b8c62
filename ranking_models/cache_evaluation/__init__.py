"""What the cache's segment modes cost in quality, and how many rows of scoring they save.

    users.py      whose row it is, and the same row for other users
    modes.py      scores of a mode for rows or lists, from exact scores and rows
    lists.py      held-out clicks among candidates from the catalogue, and their scores
    judging.py    metrics of a mode's scores, and of each resample
    measure.py    from a scorer and held-out rows to a `CacheEvaluation`
    simulated.py  held-out rows of the simulated marketplace, made anew
    values.py     what a `CacheEvaluation` holds: the JSON
    side_file.py  beside the bundle it is kept in
    text.py       the table for people

Knows no engine and no torch. The service reads side files, so nothing else is
imported from here.
"""

from ranking_models.cache_evaluation.side_file import read_beside, side_file, write_beside
from ranking_models.cache_evaluation.values import CacheEvaluation, encode_evaluation

__all__ = ["CacheEvaluation", "encode_evaluation", "read_beside", "side_file", "write_beside"]
