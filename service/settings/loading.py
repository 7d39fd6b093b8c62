"""Reads settings files and the environment; nothing else in the service does.

Precedence: command-line flag, then environment (``PODIUM_<SECTION>__<KEY>``,
such as ``PODIUM_REDIS__URL``; lists and tables as JSON), then the TOML file,
then the defaults of the tree. A variable replaces its whole list or table.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect
from msgspec import Struct

from service.errors import StartupError
from service.settings.reading import read_text
from service.settings.tree import Settings

ENVIRONMENT_PREFIX = "PODIUM_"
PLANS = "plans"
"""Folder of compiled TensorRT plans in the state directory."""


class LoadedSettings(Struct, frozen=True, kw_only=True):
    """Settings and the directory that their relative paths start from."""

    settings: Settings
    directory: Path

    def path(self, relative: str) -> Path:
        return self.directory / Path(relative).expanduser()

    @property
    def state_directory(self) -> Path:
        """Where embedded servers, the signing key and the spool are."""
        configured = self.settings.state_directory
        return default_state_directory() if configured is None else self.path(configured)


def demo_settings_file() -> Path:
    """The settings of the demonstration that ships with Podium."""
    return Path(__file__).parents[1] / "demo" / "podium.toml"


def load_settings(
    file: Path,
    *,
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[tuple[str, ...], object] | None = None,
) -> LoadedSettings:
    """Read a settings file and lay environment and flags over it.

    Args:
        file: TOML.
        text: What is in the file, where it has been read already.
        environ: In place of the process environment.
        flags: Key path such as ``("server", "port")`` to value.

    Raises:
        StartupError: one line that names what was wrong: the file, variable
            or flag, and the key.
    """
    tree = parse_settings(file, read_settings(file) if text is None else text)
    overrides = list(overrides_of(os.environ if environ is None else environ, flags or {}))
    for override in overrides:
        lay_over(tree, override, file)
    try:
        settings = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$.")  # without a place: the whole file
        section = re.split(r"[.\[`]", place)[0]
        where = f" in [{place.rstrip('`')}]" if place else ""
        reason = f"{text}{where}{choices(Settings, place)}"
        raise StartupError(f"{_sources(file, overrides, section)}: {reason}") from None
    _check_references(settings, _sources(file, overrides, "deployments", "surfaces"))
    return LoadedSettings(settings=settings, directory=file.resolve().parent)


def default_state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where Podium keeps its state when the settings do not say."""
    environ = os.environ if environ is None else environ
    home = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "podium"


def default_plan_directory() -> Path:
    """Where compiled plans are, when the settings name neither a folder for them nor for state."""
    return default_state_directory() / PLANS


def otel_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The standard OTEL_* variables, for telemetry to read."""
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if name.startswith("OTEL_")}


def read_settings(file: Path) -> str:
    """The text of a settings file.

    Raises:
        StartupError: it cannot be read.
    """
    try:
        return read_text(file, "the settings")
    except FileNotFoundError:
        raise StartupError(f"{file}: there is no such settings file") from None


def parse_settings(file: Path, text: str) -> dict[str, Any]:
    """What a file says, unchecked.

    Raises:
        StartupError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise StartupError(f"{file}: not valid TOML: {error}") from None


class Override(Struct, frozen=True):
    """One setting that goes before the file."""

    source: str
    path: tuple[str, ...]
    value: object


def overrides_of(
    environ: Mapping[str, str], flags: Mapping[tuple[str, ...], object]
) -> Iterator[Override]:
    """What goes before the file, the strongest last.

    Raises:
        StartupError: a variable or flag is no setting, or cannot be one's value.
    """
    yield from _from_environment(environ)
    yield from _from_flags(flags)


def variables_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with our prefix, settings or not."""
    return {name: text for name, text in environ.items() if name.startswith(ENVIRONMENT_PREFIX)}


def _from_environment(environ: Mapping[str, str]) -> Iterator[Override]:
    """Settings from variables with our prefix; a misspelt one is refused.

    Only names with a double underscore are ours to refuse: Kubernetes sets
    PODIUM_PORT and the like for a service called podium.
    """
    for name, text in variables_of(environ).items():
        path = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        if path in _types():
            yield Override(name, path, _read_variable(name, text, _types()[path]))
        elif len(path) > 1:
            raise StartupError(f"{name}: there is no such setting; {_close(path)}")


def _from_flags(flags: Mapping[tuple[str, ...], object]) -> Iterator[Override]:
    for path, value in flags.items():
        source = f"the flag for {'.'.join(path)}"
        try:
            msgspec.convert(value, _types()[path])
        except msgspec.ValidationError as error:
            raise StartupError(f"{source}: {error}") from None
        yield Override(source, path, value)


def _read_variable(name: str, text: str, field_type: Any) -> object:
    """The value that a variable holds: JSON for a list or table, else as it is."""
    is_json = isinstance(msgspec.inspect.type_info(field_type), _CONTAINERS)
    try:
        value = msgspec.json.decode(text) if is_json else text
        read = msgspec.convert(value, field_type, strict=is_json)
        return value if is_json else msgspec.to_builtins(read)
    except msgspec.ValidationError as error:
        place = str(error).partition(" - at `$")[2]
        raise StartupError(f"{name}: {error}{choices(field_type, place)}") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise StartupError(f"{name}: is not JSON, as a list or table has to be: {error}") from None


def choices(root: Any, place: str) -> str:
    """What a setting may be, where that is one of a few words.

    Args:
        root: The type that was read.
        place: Where in it, as msgspec says, such as ``deployments[...].engines[0]``.
    """
    there = msgspec.inspect.type_info(root)
    for step in re.findall(r"\w+|\.\.\.", place):
        if isinstance(there, msgspec.inspect.StructType):
            there = next((f.type for f in there.fields if f.encode_name == step), there)
        elif isinstance(there, msgspec.inspect.DictType):
            there = there.value_type
        elif isinstance(there, msgspec.inspect.VarTupleType):
            there = there.item_type
    if not isinstance(there, msgspec.inspect.LiteralType):
        return ""
    return f"; it may be {', '.join(map(str, there.values))}"


_CONTAINERS = (msgspec.inspect.VarTupleType, msgspec.inspect.DictType)


@cache
def _types() -> Mapping[tuple[str, ...], Any]:
    """Key path to type, for every setting that one variable can hold."""
    types: dict[tuple[str, ...], Any] = {}
    for field in msgspec.structs.fields(Settings):
        if isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.StructType):
            for inner in msgspec.structs.fields(field.type):
                types[field.name, inner.name] = inner.type
        else:
            types[(field.name,)] = field.type
    return types


def _close(path: tuple[str, ...]) -> str:
    names = [ENVIRONMENT_PREFIX + "__".join(p).upper() for p in _types()]
    wanted = ENVIRONMENT_PREFIX + "__".join(path).upper()
    near = difflib.get_close_matches(wanted, names, n=1)
    return f"did you mean {near[0]}?" if near else "deploy/settings.example.toml lists them all"


def lay_over(tree: dict[str, Any], override: Override, file: Path) -> None:
    """Put a setting into what a file says.

    Raises:
        StartupError: there is a value where its table belongs.
    """
    for key in override.path[:-1]:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            raise StartupError(f"{file}: `{key}` is a table of settings, [{key}], not a value")
        tree = inner
    tree[override.path[-1]] = override.value


def _sources(file: Path, overrides: Sequence[Override], *sections: str) -> str:
    """The file, and what else had a say in some sections of the settings."""
    others = [override.source for override in overrides if override.path[0] in sections]
    return " with ".join([str(file), *others])


def _check_references(settings: Settings, sources: str) -> None:
    for reason in reference_problems(settings):
        raise StartupError(f"{sources}: {reason}")


def reference_problems(settings: Settings) -> Iterator[str]:
    """What names something that is not there, or cannot stand together."""
    names = settings.deployments
    if not names:
        yield "[deployments] is empty; name at least one deployment"
    for surface, deployment in settings.surfaces.items():
        if names and deployment not in names:
            known = ", ".join(sorted(names))
            yield f"surface {surface!r} names deployment {deployment!r}; known: {known}"
    if "default" not in settings.surfaces and len(names) > 1:
        yield "[surfaces] needs `default`, there are several deployments"
    for name, deployment_settings in names.items():
        engines = deployment_settings.engines
        if "popularity" in engines and engines != ("popularity",):
            yield (
                f"deployments.{name}.engines: popularity stands alone; "
                "as a fallback it needs no engine, see allow_degraded"
            )
        if len(set(engines)) != len(engines):
            yield f"deployments.{name}.engines names an engine twice"
