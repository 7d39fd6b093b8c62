"""An OpenFeature provider in front of the router: any code that reads flags reads experiments.

For processes that hold the definitions themselves. The hot path does not come
this way: the SDK alone costs many times the decision.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.source import ExperimentSource
from service.openfeature.evaluation import ContextInvalid, Flag, flag

try:
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.exception import (
        FlagNotFoundError,
        InvalidContextError,
        TargetingKeyMissingError,
        TypeMismatchError,
    )
    from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
    from openfeature.provider import AbstractProvider, Metadata
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "an OpenFeature provider needs the OpenFeature SDK: pip install 'podium[openfeature]'",
        name=missing.name,
    ) from None

Object = Sequence[FlagValueType] | Mapping[str, FlagValueType]


# Without the extra the base class is unknown to the type checker; with it, it is not.
class PodiumProvider(AbstractProvider):  # type: ignore[misc, unused-ignore]
    """Experiments as flags.

    A text is the variant's name, a truth says whether the unit is served by
    another variant than the control, an object holds the variant, its
    deployment and how it came about. There are no numbers. Reading counts no
    exposure. Safe to share between threads.
    """

    def __init__(self, source: ExperimentSource) -> None:
        super().__init__()
        self._source = source

    def get_metadata(self) -> Metadata:
        return Metadata(name="podium")

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        found = self._flag(flag_key, evaluation_context)
        return _details(found, found.value)

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        found = self._flag(flag_key, evaluation_context)
        return _details(found, found.treated)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Object,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Object]:
        found = self._flag(flag_key, evaluation_context)
        return _details(found, {"variant": found.value, **found.metadata})

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        raise _no_number(flag_key)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        raise _no_number(flag_key)

    def _flag(self, key: str, context: EvaluationContext | None) -> Flag:
        """The experiment for the context.

        Raises:
            OpenFeatureError: in the words of the SDK, which then gives the caller's default.
        """
        try:
            found = flag(self._source.current(), key, _as_mapping(context))
        except ContextInvalid as error:
            raise InvalidContextError(str(error)) from None
        if found is None:
            raise FlagNotFoundError(f"there is no experiment {key!r}")
        if found.unit_missing:
            raise TargetingKeyMissingError(f"experiment {key!r} finds no unit in the context")
        return found


def _details(found: Flag, value: Any) -> FlagResolutionDetails[Any]:
    return FlagResolutionDetails(
        value=value,
        variant=found.variant,
        reason=found.reason,
        flag_metadata=found.metadata,
    )


def _as_mapping(context: EvaluationContext | None) -> dict[str, Any]:
    if context is None:
        return {}
    return {**context.attributes, "targetingKey": context.targeting_key}


def _no_number(key: str) -> TypeMismatchError:
    return TypeMismatchError(f"experiment {key!r} is read as text, truth or object, not as number")
