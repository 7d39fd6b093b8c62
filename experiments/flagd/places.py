"""Where in a flagd document something is, and why it is refused."""

from typing import Any, NoReturn

from msgspec import Struct

TARGETING_KEY = "targetingKey"
FLAG_KEY = "$flagd.flagKey"


class Refused(ValueError):
    """A part of a flag that an experiment cannot say; `path` is the part's."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


class Node(Struct, frozen=True):
    """A JSON value and its path."""

    value: Any
    path: str

    def __getitem__(self, key: str | int) -> "Node":
        step = f"[{key}]" if isinstance(key, int) else f".{key}"
        return Node(self.value[key], self.path + step)

    def items(self) -> "list[Node]":
        """The elements of a list.

        Raises:
            Refused: it is none.
        """
        if not isinstance(self.value, list):
            self.refuse("must be a list")
        return [self[at] for at in range(len(self.value))]

    def operation(self) -> tuple[str, "Node"]:
        """Operator and arguments of a JSON Logic expression.

        Raises:
            Refused: it is none.
        """
        if not isinstance(self.value, dict) or len(self.value) != 1:
            self.refuse("must be an expression, an object with one operator")
        (operator,) = self.value
        return operator, self[operator]

    def variable(self) -> str | None:
        """The name that ``{"var": name}`` reads; None if it is anything else."""
        if not isinstance(self.value, dict) or list(self.value) != ["var"]:
            return None
        name = self.value["var"]
        if isinstance(name, list) and len(name) == 1:
            name = name[0]
        return name if isinstance(name, str) else None

    def refuse(self, reason: str) -> NoReturn:
        raise Refused(self.path, reason)
