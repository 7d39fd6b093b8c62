"""Which features requests may carry: the same for every variant of every experiment."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from ranking_models.schema import ITEM_ID, USER_ID, FeatureSchema, FeatureValue, Source
from service.errors import InvalidRequest
from service.messages import RankRequest

SURFACE = "surface"
STANDARD_CONTEXT = frozenset((SURFACE, "device", "country", "hour"))
"""What a backend may tell with every request, whether or not a loaded model looks at it."""
ANCHOR_ITEM = "anchor_item"
"""The context feature that holds the anchor, for models that declare it."""


class FeatureNames(Struct):
    """The feature names that requests may carry, by source, over all loaded models.

    Checked against all of them, not only the routed one: a request must not
    be valid for one variant of an experiment and invalid for another. When
    another version of a model serves, its names join them, and none is taken
    away: a request that was valid stays so until the next start.
    """

    user: frozenset[str]
    item: frozenset[str]
    context: frozenset[str]
    numeric_context: frozenset[str]

    @staticmethod
    def of(schemas: Sequence[FeatureSchema]) -> "FeatureNames":
        def names(source: Source, reserved: str) -> frozenset[str]:
            specs = [spec for schema in schemas for spec in schema.of(source).features]
            return frozenset(spec.name for spec in specs) - {reserved}

        dense = [spec for schema in schemas for spec in schema.of("context").dense]
        return FeatureNames(
            user=names("user", USER_ID),
            item=names("item", ITEM_ID),
            context=names("context", ANCHOR_ITEM) | STANDARD_CONTEXT,
            numeric_context=frozenset(spec.name for spec in dense),
        )

    def learn(self, schemas: Sequence[FeatureSchema]) -> None:
        """From now on the names of these models are known as well."""
        more = FeatureNames.of(schemas)
        self.user, self.item = self.user | more.user, self.item | more.item
        self.context = self.context | more.context
        self.numeric_context = self.numeric_context | more.numeric_context

    def context_value(self, name: str, text: str) -> FeatureValue:
        """A context value from a query parameter.

        Raises:
            InvalidRequest: an unknown name, or no number where one is needed.
        """
        _check_names({name: text}, self.context, "$")
        if name not in self.numeric_context:
            return text
        try:
            return float(text)
        except ValueError:
            raise InvalidRequest(f"{name} takes a number, got {text!r}", f"$.{name}") from None

    def check(self, request: RankRequest) -> None:
        """Refuse names that no loaded model knows.

        Raises:
            InvalidRequest: with the JSON path of the name.
        """
        _check_names(request.user.features, self.user, "$.user.features")
        _check_names(request.context, self.context, "$.context")
        if not isinstance(request.context.get(SURFACE, ""), str):
            raise InvalidRequest("surface takes text", f"$.context.{SURFACE}")
        for index, candidate in request.described():
            _check_names(candidate.features, self.item, f"$.candidates[{index}].features")


def _check_names(values: Mapping[str, object], known: frozenset[str], path: str) -> None:
    for name in values:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise InvalidRequest(f"unknown feature {name!r}; known here: {names}", f"{path}.{name}")
