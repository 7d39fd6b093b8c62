"""An experiment as a feature flag: key, variant, value and reason in OpenFeature's words.

Reading a flag is no exposure: nobody was served anything yet. Exposures are
counted where slates are made.
"""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from experiments.assignment import Assigner
from experiments.outcome import Assignment, Reason, Units
from experiments.targeting import ContextValue

TARGETING_KEY = "targetingKey"
"""The user's id in an evaluation context."""
SESSION = "session_id"
"""The session's id in an evaluation context, for experiments that split by it."""

FlagReason = Literal["SPLIT", "TARGETING_MATCH", "STATIC", "DISABLED", "DEFAULT"]

_REASONS: dict[Reason, FlagReason] = {
    "SPLIT": "SPLIT",
    "EXTERNAL": "TARGETING_MATCH",
    "OVERRIDE": "TARGETING_MATCH",
    "FORCED": "TARGETING_MATCH",
    "PROMOTED": "STATIC",
    "DISABLED": "DISABLED",
    "DRAFT": "DISABLED",
    "STOPPED": "DISABLED",
    "ROLLED_BACK": "DISABLED",
    "NOT_READY": "DISABLED",
    "DEFAULT": "DEFAULT",
    "HOLDOUT": "DEFAULT",
    "LAYER": "DEFAULT",
    "TRAFFIC": "DEFAULT",
    "NOT_TARGETED": "DEFAULT",
    "ERROR": "DEFAULT",
    "TARGETING_KEY_MISSING": "DEFAULT",
}


class Flag(Struct, frozen=True, kw_only=True):
    """One experiment for one evaluation context."""

    key: str
    variant: str
    value: str
    """The variant's name; in an A/A phase the control's, because everybody is served alike."""
    treated: bool
    """Whether the value is another than the control's name."""
    reason: FlagReason
    """`SPLIT` for draws, `DEFAULT` for who is kept out of the experiment."""
    assignment: Assignment
    config_digest: str

    @property
    def unit_missing(self) -> bool:
        """The context has no id for what this experiment randomises."""
        return self.assignment.reason == "TARGETING_KEY_MISSING"

    @property
    def metadata(self) -> dict[str, str | int | bool]:
        """What Podium knows beyond OpenFeature's words; flat, as flag metadata must be."""
        told: dict[str, str | int | bool] = {
            "reason": self.assignment.reason,
            "phase": self.assignment.phase,
            "counts": self.assignment.counts,
            "configDigest": self.config_digest,
        }
        if self.assignment.deployment is not None:
            told["deployment"] = self.assignment.deployment
        return told


class ContextInvalid(ValueError):
    """The evaluation context names no unit as a unit must be named."""


def flags(assigner: Assigner, context: Mapping[str, Any]) -> tuple[Flag, ...]:
    """Every experiment, in the order of definition.

    Args:
        assigner: The experiments that are in force.
        context: ``targetingKey`` is the user, ``session_id`` the session; texts,
            numbers, truths and lists of them are for targeting rules, and what is
            nested deeper is left out.

    Raises:
        ContextInvalid: one of the two ids is no text.
    """
    units = Units(user=_id(context, TARGETING_KEY), session=_id(context, SESSION))
    given = {
        name: value
        for name, value in context.items()
        if name not in (TARGETING_KEY, SESSION) and _usable(value)
    }
    decided = assigner.decide(units, context=given).assignments
    return tuple(
        _flag(assigner, experiment.control.name, experiment.state == "aa", assignment)
        for experiment, assignment in zip(assigner.experiments, decided, strict=True)
    )


def flag(assigner: Assigner, key: str, context: Mapping[str, Any]) -> Flag | None:
    """One experiment; None if there is none of this key.

    Raises:
        ContextInvalid: as `flags`.
    """
    return next((found for found in flags(assigner, context) if found.key == key), None)


def _flag(assigner: Assigner, control: str, alike: bool, assignment: Assignment) -> Flag:
    value = control if alike else assignment.variant
    return Flag(
        key=assignment.key,
        variant=assignment.variant,
        value=value,
        treated=value != control,
        reason=_REASONS[assignment.reason],
        assignment=assignment,
        config_digest=assigner.digest,
    )


def _id(context: Mapping[str, Any], name: str) -> str | None:
    given = context.get(name)
    if given is None:
        return None
    if not isinstance(given, str):
        raise ContextInvalid(f"{name} must be text, got {type(given).__name__}")
    return given


def _usable(value: ContextValue | Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(one, str | int | float) for one in values)
