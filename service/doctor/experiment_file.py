"""Everything that is wrong with a file of experiments, not only what is found first."""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.definition import Experiment
from experiments.source import ExperimentInvalid, named_table
from service.definitions import compile_experiments, no_deployment, read_experiments
from service.errors import StartupError
from service.settings.checking import SettingProblem, place_of, problem_of, problems_of, words
from service.settings.places import Path as KeyPath
from service.settings.places import lines_of

_TABLES = "experiment"


def experiment_problems(
    file: Path, deployments: Collection[str] | None
) -> tuple[SettingProblem, ...]:
    """Everything that is wrong; empty exactly if `load_experiments` takes it.

    Args:
        file: Experiments in TOML.
        deployments: Those that a variant may name; None if the settings do not tell.
    """
    try:
        text = read_experiments(file)
    except StartupError as error:
        return (problem_of(error),)
    found = tuple(_each(file, text, deployments))
    if found or deployments is None:
        return found
    try:
        compile_experiments(file, text, deployments)
    except ExperimentInvalid as error:
        return (problem_of(error),)
    return ()


def _each(file: Path, text: str, deployments: Collection[str] | None) -> Iterator[SettingProblem]:
    """Of each experiment by itself; what is wrong with all of them together is found later."""
    try:
        tables = tomllib.loads(text).get(_TABLES)
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    lines = lines_of(text)
    for number, table in enumerate(tables if isinstance(tables, list) else ()):
        for path, reason in _experiment(table, deployments):
            place = (_TABLES, number, *path)
            yield SettingProblem(
                where=place_of(file, lines, place), setting=words(place), reason=reason
            )


def _experiment(table: Any, deployments: Collection[str] | None) -> Iterator[tuple[KeyPath, str]]:
    """Places in the words of the file, where ``variants`` are ``variant``."""
    try:
        named = named_table(table)
    except ValueError as error:
        yield (), str(error)
        return
    for path, reason in problems_of(named, Experiment):
        yield _in_file(path), reason.replace("variants", "variant")
    if deployments is not None and isinstance(named, Mapping):
        yield from _unknown_deployments(named.get("variants"), deployments)


def _in_file(path: KeyPath) -> KeyPath:
    return ("variant", *path[1:]) if path[:1] == ("variants",) else path


def _unknown_deployments(
    variants: Any, deployments: Collection[str]
) -> Iterator[tuple[KeyPath, str]]:
    for number, variant in enumerate(variants if isinstance(variants, list) else ()):
        name = variant.get("deployment") if isinstance(variant, Mapping) else None
        if isinstance(name, str) and name not in deployments:
            yield ("variant", number, "deployment"), no_deployment(name, deployments)
