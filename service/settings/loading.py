"""Reads settings files and the environment; nothing else in the service does.

Precedence: command-line flag, then environment (``PODIUM_<SECTION>__<KEY>``,
such as ``PODIUM_REDIS__URL``), then the TOML file, then the defaults of the
tree.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from service.errors import StartupError
from service.settings.tree import Settings

ENVIRONMENT_PREFIX = "PODIUM_"


class LoadedSettings(Struct, frozen=True, kw_only=True):
    """Settings and the directory that their relative paths start from."""

    settings: Settings
    directory: Path

    def path(self, relative: str) -> Path:
        return self.directory / Path(relative).expanduser()


def demo_settings_file() -> Path:
    """The settings of the demonstration that ships with Podium."""
    return Path(__file__).parents[1] / "demo" / "podium.toml"


def load_settings(
    file: Path,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[tuple[str, ...], object] | None = None,
) -> LoadedSettings:
    """Read a settings file and lay environment and flags over it.

    Args:
        file: TOML.
        environ: In place of the process environment.
        flags: Key path such as ``("server", "port")`` to value.

    Raises:
        StartupError: one line that names the file or variable and the key.
    """
    tree = _read_toml(file)
    for path, value in _from_environment(os.environ if environ is None else environ).items():
        _put(tree, path, value)
    for path, value in (flags or {}).items():
        _put(tree, path, value)
    try:
        settings = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise StartupError(f"{file}: {_explain(error)}") from None
    _check_references(settings, file)
    return LoadedSettings(settings=settings, directory=file.resolve().parent)


def default_state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where Podium keeps its state when the settings do not say."""
    environ = os.environ if environ is None else environ
    home = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "podium"


def otel_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The standard OTEL_* variables, for telemetry to read."""
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if name.startswith("OTEL_")}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise StartupError(f"{file}: there is no such settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{file}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise StartupError(f"{file}: not valid TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[tuple[str, ...], object]:
    """Single values from variables with our prefix; a misspelt one is refused.

    Only names with a double underscore are ours to refuse: Kubernetes sets
    PODIUM_PORT and the like for a service called podium.
    """
    found: dict[tuple[str, ...], object] = {}
    for name, text in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        path = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        field_type = _type_at(path)
        if field_type is None:
            if len(path) > 1:
                raise StartupError(f"{name}: there is no such setting; {_close(path)}")
            continue
        try:
            found[path] = msgspec.to_builtins(msgspec.convert(text, field_type, strict=False))
        except msgspec.ValidationError as error:
            raise StartupError(f"{name}: {error}") from None
    return found


def _single_values() -> dict[tuple[str, ...], Any]:
    """Key path to type, for every setting that one variable can hold."""
    values: dict[tuple[str, ...], Any] = {}
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            for inner in msgspec.structs.fields(field.type):
                values[field.name, inner.name] = inner.type
        else:
            values[(field.name,)] = field.type
    containers = ("tuple", "dict")
    return {p: t for p, t in values.items() if not str(t).startswith(containers)}


def _type_at(path: tuple[str, ...]) -> Any:
    return _single_values().get(path)


def _close(path: tuple[str, ...]) -> str:
    names = [ENVIRONMENT_PREFIX + "__".join(p).upper() for p in _single_values()]
    wanted = ENVIRONMENT_PREFIX + "__".join(path).upper()
    near = difflib.get_close_matches(wanted, names, n=1)
    return f"did you mean {near[0]}?" if near else "see the settings in the README"


def _put(tree: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _explain(error: msgspec.ValidationError) -> str:
    """The library's message with the place in TOML's words."""
    text, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    return f"{text} in [{place}]" if place else text


def _check_references(settings: Settings, file: Path) -> None:
    names = settings.deployments
    if not names:
        raise StartupError(f"{file}: [deployments] is empty; name at least one deployment")
    for surface, deployment in settings.surfaces.items():
        if deployment not in names:
            known = ", ".join(sorted(names))
            raise StartupError(
                f"{file}: surface {surface!r} names deployment {deployment!r}; known: {known}"
            )
    if "default" not in settings.surfaces and len(names) > 1:
        raise StartupError(f"{file}: [surfaces] needs `default`, there are several deployments")
    for name, deployment_settings in names.items():
        engines = deployment_settings.engines
        if "popularity" in engines and engines != ("popularity",):
            raise StartupError(
                f"{file}: deployments.{name}.engines: popularity stands alone; "
                "as a fallback it needs no engine, see allow_degraded"
            )
        if len(set(engines)) != len(engines):
            raise StartupError(f"{file}: deployments.{name}.engines names an engine twice")
