"""Experiment definitions as the TOML text that `experiments.source` reads."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from experiments.definition import Experiment


def to_toml(experiments: Iterable[Experiment]) -> str:
    """One ``[[experiment]]`` table each, with what differs from the defaults."""
    return "\n".join(_experiment(experiment) for experiment in experiments)


def _experiment(experiment: Experiment) -> str:
    tables = {"variants": "variant", "targeting": "targeting"}
    given = _given(experiment)
    if experiment.salt == experiment.key:
        given.pop("salt", None)
    lines = ["[[experiment]]"]
    lines += [f"{name} = {_value(value)}" for name, value in given.items() if name not in tables]
    for field, table in tables.items():
        for entry in getattr(experiment, field):
            lines += ["", f"[[experiment.{table}]]"]
            lines += [f"{name} = {_value(value)}" for name, value in _given(entry).items()]
    return "\n".join(lines) + "\n"


def _given(value: msgspec.Struct) -> dict[str, Any]:
    """The fields of a struct that differ from their defaults, in their order."""
    fields = msgspec.structs.fields(value)
    given = {field.name: getattr(value, field.name) for field in fields}
    # Of mappings the default is a factory: an empty one says nothing either.
    return {
        field.name: given[field.name]
        for field in fields
        if field.required or given[field.name] not in (field.default, {})
    }


def _value(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML does not take as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    table = msgspec.to_builtins(value)
    return "{" + ", ".join(f"{_value(k)} = {_value(v)}" for k, v in table.items()) + "}"
