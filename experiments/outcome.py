"""What a decision is asked and what it answers."""

from typing import Literal

from msgspec import Struct

Reason = Literal[
    "SPLIT",  # drawn at random: counted
    "EXTERNAL",  # decided by another system, handed in with the request: counted
    "OVERRIDE",  # the definition pins this unit
    "FORCED",  # the request forces a variant, for QA
    "PROMOTED",  # the experiment is over, and this is the variant that won
    "DEFAULT",  # the other system named a variant that there is not
    "NOT_TARGETED",  # the context does not fit the targeting
    "HOLDOUT",  # kept out of all experiments of the namespace
    "LAYER",  # belongs to another experiment of the layer, or to none
    "TRAFFIC",  # outside the traffic share
    "DRAFT",  # the experiment has not begun
    "DISABLED",  # it is paused
    "STOPPED",  # it has ended without a winner
    "ROLLED_BACK",  # it was ended because a variant did harm
    "NOT_READY",  # a deployment of it is not fit to serve
    "TARGETING_KEY_MISSING",  # the request has no unit to draw for
    "ERROR",  # one of two rankers failed that were to make the slate together: not counted
]
"""Why a unit got what it got, in OpenFeature's spelling where it has a word for it."""

_PICKED: frozenset[Reason] = frozenset({"SPLIT", "EXTERNAL", "OVERRIDE", "FORCED", "PROMOTED"})


class Units(Struct, frozen=True, gc=False):
    """Who a request is for. An empty id is no id, and so is one that has no UTF-8 form."""

    user: str | None = None
    session: str | None = None


class Assignment(Struct, frozen=True, gc=False):
    """The variant of one experiment for one unit, and why."""

    key: str
    phase: int
    variant: str
    """The control's name where no variant was picked: `picked` tells."""
    deployment: str | None
    """What must serve the request; None leaves the surface's own deployment in place,
    always so where no variant was picked: who is not in an experiment is not touched by it."""
    reason: Reason
    unit: str | None
    """The id that was, or would have been, drawn for."""
    propensity: float = 1.0
    """Probability with which the draw picks this variant for a unit that takes part; 1 where
    nothing was drawn."""
    interleaves: bool = False
    """Whether the slate is to be mixed from those of both variants; the variant named is then
    the control, whose deployment also serves what cannot be mixed."""

    @property
    def picked(self) -> bool:
        """Whether the unit is served by the variant, and not only kept out."""
        return self.reason in _PICKED

    @property
    def counts(self) -> bool:
        """Whether slates served under it are exposures: only undisturbed draws of known units."""
        return self.reason in ("SPLIT", "EXTERNAL") and self.unit is not None


class Decision(Struct, frozen=True, gc=False):
    """What all experiments together say about one request."""

    assignments: tuple[Assignment, ...]
    """One per experiment, in the order of their definition."""
    deployment: str | None = None
    """What must serve it; None leaves the surface's own deployment in place."""
    external_ignored: tuple[str, ...] = ()
    """Keys of external decisions that name no experiment or variant of ours, to be counted."""
