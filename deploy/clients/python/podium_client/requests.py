"""What is asked of Podium. A field that it does not know is refused, so there are no others.

Limits are the service's and checked there: its refusal says what is wrong, and where.
"""

from typing import Literal

from msgspec import Struct

FeatureValue = str | int | float | bool | list[str | int | float | bool] | None
"""A raw feature value, as the model was trained with; None means missing, and so do NaN and
infinity, for which JSON has no words."""
Features = dict[str, FeatureValue]
Priority = Literal["high", "normal", "low"]


class UserRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who the slate is for; without an id the user is anonymous."""

    id: str | None = None
    features: Features = {}
    """Feature values that override what the bundle knows of this user."""


ANONYMOUS = UserRef()


class Candidate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An item to score, with feature values that override the catalogue's."""

    id: str
    features: Features = {}


class RankRequest(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Order these candidates for this user."""

    candidates: tuple[str | Candidate, ...]
    """1 to 1,000, distinct."""
    request_id: str | None = None
    user: UserRef = ANONYMOUS
    session_id: str | None = None
    context: Features = {}
    """``surface``, ``device``, ``country``, ``hour`` and every context feature of a loaded
    model."""
    anchor_item: str | None = None
    """Ranking beside this item."""
    k: int = 20
    timeout_ms: int = 50
    """Counted from arrival; the clients fill it in from the deadline of the call."""
    priority: Priority = "normal"
    explain: bool = False
    force: dict[str, str] = {}
    """Experiment to variant: QA overrides, never counted in the analysis."""
    external: dict[str, str] = {}
    """Experiment to variant: what another system has decided."""
    force_token: str | None = None
    """What an admin has signed: forces one variant."""


class FeedbackEvent(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """An impression or a click; `podium_client.events` builds them."""

    event_id: str
    """Reported twice, it counts once: keep it for every attempt to deliver the event."""
    type: Literal["impression", "click"]
    slate_id: str
    item_id: str
    position: int
    """Place in the slate as shown, 1 is first."""
    timestamp: str
    """When it happened; RFC 3339, with a time zone."""
    exposure: str | None = None
    """The token of the reply; without it the event counts for no variant."""


class ExperimentChange(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What a person may say with a change of an experiment."""

    reason: str = ""
    """For the audit log."""
    if_generation: int | None = None
    """The change is refused unless this is the standing's generation."""
    stage: int | None = None
    """Of ``ramp``: the place of the stage, from 0; without it and `traffic_bp` the next one."""
    traffic_bp: int | None = None
    """Of ``ramp``: a share of the traffic that need not be a stage's."""
    variant: str | None = None
    """Of ``promote``; may be left out where there is only one beside the control."""
