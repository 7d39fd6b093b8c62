"""What was looked at: one line each, and what to do about it."""

from typing import Literal

from msgspec import Struct

State = Literal["ok", "note", "problem"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that serving needs, or may use."""

    subject: str
    state: State
    """note: serving works without, or worse; problem: it does not work as it is."""
    found: str
    advice: str = ""
    """What to do; empty where all is well, and only there."""


class Examination(Struct, frozen=True, kw_only=True):
    """Everything that was looked at: the JSON of ``podium doctor --json``."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> int:
        return sum(finding.state == "problem" for finding in self.findings)


def ok(subject: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(subject=subject, state="ok", found=found)


def note(subject: str, found: str, advice: str) -> Finding:
    """Serving works without, or worse."""
    return Finding(subject=subject, state="note", found=found, advice=advice)


def problem(subject: str, found: str, advice: str) -> Finding:
    """Serving does not work as it is."""
    return Finding(subject=subject, state="problem", found=found, advice=advice)
