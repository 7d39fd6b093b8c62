"""What is wrong with a whole configuration: settings, environment, experiments, named files."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from redis.asyncio import Redis

from service.doctor.experiment_file import experiment_problems
from service.errors import StartupError
from service.settings import LoadedSettings, load_settings, otel_variables
from service.settings.checking import (
    CheckedSettings,
    SettingProblem,
    check_settings,
    problem_of,
    words,
)
from service.settings.loading import read_settings
from service.stores import cluster_clients, events_client
from service.telemetry.variables import export_settings


def configuration_problems(
    file: Path,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[tuple[str, ...], object] | None = None,
) -> tuple[SettingProblem, ...]:
    """Everything that would keep `podium serve` from starting, as far as files can tell.

    Servers and files that the settings name are looked at once the settings themselves can
    be used; experiments in any case.

    Args:
        file, environ, flags: As for `load_settings`.
    """
    environ = os.environ if environ is None else environ
    try:
        text = read_settings(file)
    except StartupError as error:
        return (problem_of(error), *_telemetry(environ))
    checked = check_settings(file, text, environ=environ, flags=flags)
    found = list(checked.problems)
    if not found:
        loaded = load_settings(file, text=text, environ=environ, flags=flags)
        found += [*_stores(loaded, checked), *_models(loaded, checked)]
    return (*found, *_telemetry(environ), *_experiments(checked))


def _telemetry(environ: Mapping[str, str]) -> Iterator[SettingProblem]:
    try:
        export_settings(otel_variables(environ))
    except StartupError as error:
        yield problem_of(error)


def _stores(loaded: LoadedSettings, checked: CheckedSettings) -> Iterator[SettingProblem]:
    """URLs, certificates: all that a client is made of, before it connects."""
    redis, events = loaded.settings.redis, loaded.settings.events
    missing = list(_certificates(loaded, checked))
    if missing:  # no client can be made
        yield from missing
        return
    wanted: dict[str, Callable[[], Sequence[Redis]]] = {}
    if redis.url is not None:
        wanted["url"] = partial(cluster_clients, redis.url, redis)
    if redis.events_url is not None:
        wanted["events_url"] = lambda: (events_client(str(redis.events_url), redis, events),)
    for name, make in wanted.items():
        try:
            asyncio.run(_close(make()))
        except StartupError as error:
            where = checked.where(("redis", name))
            yield SettingProblem(where=where, setting="", reason=str(error))


async def _close(clients: Sequence[Redis]) -> None:
    for client in clients:
        await client.aclose()


def _certificates(loaded: LoadedSettings, checked: CheckedSettings) -> Iterator[SettingProblem]:
    for name in ("tls_ca", "tls_cert", "tls_key"):
        configured = getattr(loaded.settings.redis, name)
        if configured is not None and not loaded.path(configured).is_file():
            reason = f"there is no file {loaded.path(configured)}"
            yield _problem(checked, ("redis", name), reason)


def _models(loaded: LoadedSettings, checked: CheckedSettings) -> Iterator[SettingProblem]:
    configured = loaded.settings.models.directory
    if configured is not None and not loaded.path(configured).is_dir():
        reason = f"there is no folder {loaded.path(configured)}"
        yield _problem(checked, ("models", "directory"), reason)


def _experiments(checked: CheckedSettings) -> Iterator[SettingProblem]:
    """Also where the settings cannot be used, as far as they say which experiments are meant."""
    section, deployments = checked.tree.get("experiments"), checked.tree.get("deployments")
    named = section.get("file") if isinstance(section, dict) else None
    if isinstance(named, str):
        file = checked.file.resolve().parent / Path(named).expanduser()
        known = deployments if isinstance(deployments, dict) else None
        yield from experiment_problems(file, known)


def _problem(checked: CheckedSettings, path: tuple[str, ...], reason: str) -> SettingProblem:
    return SettingProblem(where=checked.where(path), setting=words(path), reason=reason)
