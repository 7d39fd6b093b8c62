"""How handlers mark what the composition root hands them."""

from typing import TypeAlias, TypeVar

from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct

from service.api.access import Access
from service.clock import Clock
from service.events.force_tokens import ForceTokens
from service.feature_names import FeatureNames
from service.ranker import Ranker
from service.telemetry import Telemetry
from service.warming.inspection import Inspector
from service.warming.warmer import Warmer

T = TypeVar("T")

Given: TypeAlias = NamedDependency[SkipValidation[T]]
"""A dependency by the parameter's name. Not checked at run time: the types are
protocols as well as classes, and mypy has checked what `app.py` hands in."""


class RankingParts(Struct, frozen=True, kw_only=True):
    """What a ranking route needs, handed in as one.

    The framework makes a task for each of several dependencies; for these that
    cost more than to rank ten candidates.
    """

    ranker: Ranker
    feature_names: FeatureNames
    access: Access
    telemetry: Telemetry
    clock: Clock
    body_limit: int
    force_tokens: ForceTokens


class CacheParts(Struct, frozen=True, kw_only=True):
    """What the routes of the cache need, handed in as one."""

    warmer: Warmer
    inspector: Inspector
    feature_names: FeatureNames
