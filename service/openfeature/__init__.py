"""Podium among feature flags: experiments read as flags, and flags taken as decisions.

`evaluation` needs nothing; `provider` and `decisions` need the extra ``openfeature``.
"""
