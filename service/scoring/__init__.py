"""Scores for one slate: from the cache, else from the engines; or by popularity.

`scorer` picks how, by the cache mode of the deployment or the variant; there is a
module for each mode.
"""

from service.scoring.scorer import Scoring, SlateScorer
from service.scoring.slates import BYPASS, Fresh, Learns, SlateScores, Wanted, share_s

__all__ = [
    "BYPASS",
    "Fresh",
    "Learns",
    "Scoring",
    "SlateScorer",
    "SlateScores",
    "Wanted",
    "share_s",
]
