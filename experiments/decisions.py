"""What was decided about an experiment, by whom, and on which evidence: the audit log's entries."""

from typing import Any, Literal

from msgspec import Struct

from experiments.standing import Standing

Action = Literal[
    "start",
    "pause",
    "resume",
    "ramp",
    "promote",
    "rollback",
    "stop",
    "advance",  # the rule, to the next stage
    "allocate",  # a bandit's new shares
    "hold",  # the rule wants to change something and may not
    "continue",  # the rule saw nothing to change
    "define",  # the definition was read, for the first time or edited
]


class DecisionRecord(Struct, frozen=True, kw_only=True):
    """One entry of the audit log. It is written in the same step as the change itself."""

    at: float
    """Seconds of the wall clock."""
    key: str
    action: Action
    by: str
    """``rule``, ``file``, ``key:<name>`` of an API key, or ``loopback``."""
    reason: str
    before: Standing | None
    """None where the experiment was not known before."""
    after: Standing | None
    """The same as `before` where nothing was changed."""
    config_digest: str
    """Of the definitions that whoever decided went by."""
    evidence: dict[str, Any] | None = None
    """Every figure, bound and limit that the rule used. As it was written, and not
    a struct: the log is never trimmed, and records of all versions must be readable."""
    dry_run: bool = False
    """Decided and recorded only."""
