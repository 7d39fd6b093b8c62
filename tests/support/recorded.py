"""Fakes of native modules that take only what the real ones take.

Every name, method, argument and enum member that code uses on a fake is looked
up in what was recorded from the real bindings (``record_signatures.py``): what
is not there raises, as it would on a machine that has the real module.
"""

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SIGNATURES = Path(__file__).parents[1] / "ranking_models" / "tensorrt" / "signatures"


class Recording:
    """What one module offers."""

    def __init__(self, file: str) -> None:
        self.file = file
        recorded = json.loads((SIGNATURES / file).read_text())
        self.version: str = recorded["version"]
        self.constants: dict[str, int] = recorded["constants"]
        self.functions: dict[str, list[list[str]]] = recorded["functions"]
        self.classes: dict[str, dict[str, Any]] = recorded["classes"]

    def enum(self, name: str, values: Mapping[str, int] | None = None) -> Any:
        """The recorded members; the numbers that matter are given, the others are any."""
        members = self.classes[name]["members"]
        given = dict(values or {})
        if missing := set(given) - set(members):
            raise AttributeError(f"{self.file}: {name} has no {missing}")
        others = [m for m in members if m not in given]
        first = max(given.values(), default=-1) + 1
        numbered = {name: first + i for i, name in enumerate(others)}
        return enum.IntEnum(name, given | numbered)

    def check(self, what: str, overloads: Sequence[Sequence[str]], args: Any, kwargs: Any) -> None:
        """Refuse a call that fits no recorded signature."""
        if not any(_fits(names, args, kwargs) for names in overloads):
            taken = " or ".join(f"({', '.join(names)})" for names in overloads)
            given = [*("..." for _ in args), *kwargs]
            raise TypeError(f"{self.file}: {what} takes {taken}, not ({', '.join(given)})")


class RecordedModule:
    """A module that has the recorded names, and behaves as the given classes do.

    A name that was recorded but is given no behaviour is an enum, or raises.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        classes: Mapping[str, type] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self._recording = recording
        self._classes = dict(classes or {})
        self._functions = dict(functions or {})
        self._values = dict(values or {})
        unknown = (set(self._classes) - set(recording.classes)) | (
            set(self._functions) - set(recording.functions)
        )
        if unknown:
            raise AttributeError(f"{recording.file}: the real module has no {sorted(unknown)}")
        self.__version__ = recording.version
        self.calls: list[str] = []
        """Every call made, as ``Class.method`` or ``function``."""

    def __getattr__(self, name: str) -> Any:
        recording = self._recording
        if name in self._values:
            return self._values[name]
        if name in self._functions:
            return self._called(name, recording.functions[name], self._functions[name])
        if name in self._classes:
            overloads = recording.classes[name]["methods"]["__init__"]
            return self._called(name, overloads, self._classes[name])
        if "members" in recording.classes.get(name, {}):
            self._values[name] = recording.enum(name)
            return self._values[name]
        if name in recording.constants:
            return recording.constants[name]
        raise AttributeError(f"{recording.file}: there is no {name}")

    def _called(
        self, what: str, overloads: Sequence[Sequence[str]], call: Callable[..., Any]
    ) -> Callable[..., Any]:
        def checked(*args: Any, **kwargs: Any) -> Any:
            self._recording.check(what, overloads, args, kwargs)
            self.calls.append(what)
            answer = call(*map(_bare, args), **{name: _bare(v) for name, v in kwargs.items()})
            return self.wrapped(answer)

        return checked

    def wrapped(self, value: Any) -> Any:
        """An object of a recorded class that can only be used as recorded; others as they are."""
        if type(value) is tuple:  # CUDA answers with an error code and the value
            return tuple(map(self.wrapped, value))
        name = type(value).__name__
        is_recorded = "methods" in self._recording.classes.get(name, {})
        return _Recorded(self, self._recording, name, value) if is_recorded else value


class _Recorded:
    """An object whose attributes and methods are those of the recorded class."""

    def __init__(self, module: RecordedModule, recording: Recording, kind: str, bare: Any) -> None:
        vars(self).update(_module=module, _recording=recording, _kind=kind, _bare=bare)

    def __getattr__(self, name: str) -> Any:
        recorded = self._recording.classes[self._kind]
        if name in recorded["methods"]:
            call = getattr(self._bare, name)
            return self._module._called(f"{self._kind}.{name}", recorded["methods"][name], call)
        self._require(name)
        return self._module.wrapped(getattr(self._bare, name))

    def __setattr__(self, name: str, value: Any) -> None:
        self._require(name)
        setattr(self._bare, name, _bare(value))

    def __bool__(self) -> bool:
        return bool(self._bare)

    def __int__(self) -> int:
        return int(self._bare)

    def __bytes__(self) -> bytes:
        return bytes(self._bare)

    def _require(self, name: str) -> None:
        if name not in self._recording.classes[self._kind]["attributes"]:
            raise AttributeError(f"{self._recording.file}: {self._kind} has no {name}")


def _bare(value: Any) -> Any:
    return vars(value)["_bare"] if isinstance(value, _Recorded) else value


def _fits(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    bare = [name.rstrip("?") for name in names]
    given = bare[: len(args)] + list(kwargs)
    needed = {name for name in names if not name.endswith("?")}
    return (
        len(args) <= len(names)
        and len(given) == len(set(given))
        and set(given) <= set(bare)
        and needed <= set(given)
    )
