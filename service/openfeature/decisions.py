"""Any OpenFeature flag system as the one that decides: its variants as external decisions.

The caller is whoever asks for rankings and already has an OpenFeature client:
it sends the answer as ``external`` of ``POST /v1/rank``.
"""

from collections.abc import Iterable

try:
    from openfeature.client import OpenFeatureClient
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.flag_evaluation import Reason
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "decisions of an OpenFeature client need its SDK: pip install 'podium[openfeature]'",
        name=missing.name,
    ) from None

UNDECIDED = "-"
"""Stands for a decision that the flag system did not give. No variant can have this name, so
Podium keeps the unit out, with the reason ``DEFAULT`` and a count. Leaving the key out instead
would make Podium draw by itself, and units would change variants whenever flags fail."""

_NOT_DECIDED = (Reason.DISABLED, Reason.DEFAULT, Reason.ERROR)
"""Reasons of a value that no rule and no draw gave: such units would be counted in the variant
of the default, beside those that were drawn into it."""


def external_decisions(
    client: OpenFeatureClient,
    experiment_keys: Iterable[str],
    context: EvaluationContext | None = None,
) -> dict[str, str]:
    """What the flag system decides about experiments of the same keys.

    A flag is read as text: its variant's name, else its value, is the variant
    of ours. Reading may do I/O in the client's provider.

    Args:
        client: Of any provider.
        experiment_keys: Flags to ask for.
        context: Whom it is about, for the client's provider to judge.

    Returns:
        Experiment key to variant name, `UNDECIDED` where the flag is
        missing, disabled, of another type, only had its default to give, or failed.
    """
    return {key: _decision(client, key, context) for key in experiment_keys}


def _decision(client: OpenFeatureClient, key: str, context: EvaluationContext | None) -> str:
    found = client.get_string_details(key, UNDECIDED, context)
    if found.error_code is not None or found.reason in _NOT_DECIDED:
        return UNDECIDED
    return found.variant or found.value or UNDECIDED
