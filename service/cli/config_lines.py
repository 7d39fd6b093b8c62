"""Settings in effect as a person reads them: masked, aligned, and explained."""

import difflib
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ranking_models.errors import InputError
from service.cli.aligned import aligned
from service.settings.checking import words
from service.settings.documentation import documentation_of
from service.settings.origins import EffectiveSetting
from service.stores import redacted

MASK = "***"
_URLS = (("redis", "url"), ("redis", "events_url"))
_KEYS = (("engine", "triton_key"),)
_LONGEST = 60


class ExplainedSetting(Struct, frozen=True, kw_only=True):
    """One setting of ``podium config explain --json``."""

    setting: str
    value: Any
    source: str
    default: Any
    """What it would be; null also where it has to be given."""
    required: bool
    kind: str
    """What it may be."""
    text: str
    variable: str | None
    """The environment variable that sets it."""


def explained(settings: Sequence[EffectiveSetting]) -> list[ExplainedSetting]:
    """With what the documentation says, and without secrets."""
    return [_explained(setting) for setting in settings]


def chosen(settings: Sequence[ExplainedSetting], key: str) -> list[ExplainedSetting]:
    """One setting, or those of a table.

    Raises:
        InputError: there is none of that name.
    """
    found = [
        s for s in settings if s.setting == key or s.setting.startswith((f"{key}.", f"{key}["))
    ]
    if not found:
        names = [s.setting for s in settings]
        tables = {name.rpartition(".")[0] for name in names} - {""}
        near = difflib.get_close_matches(key, [*names, *tables], n=1)
        advice = f"did you mean {near[0]}?" if near else "podium config explain lists them all"
        raise InputError(f"there is no setting {key!r}; {advice}")
    return found


def table_lines(settings: Sequence[ExplainedSetting]) -> Iterator[str]:
    """All of them, one line each."""
    rows = [(s.setting, _short(shown(s.value)), s.source) for s in settings]
    return aligned([("setting", "value", "from"), *rows])


def key_lines(settings: Sequence[ExplainedSetting]) -> Iterator[str]:
    """Each with everything that is known about it."""
    for at, setting in enumerate(settings):
        if at:
            yield ""
        yield f"{setting.setting} = {shown(setting.value)}"
        facts = [("from", setting.source)]
        facts += [
            ("default", "none, it has to be given" if setting.required else _default(setting))
        ]
        facts += [("may be", setting.kind)] if setting.kind else []
        facts += [("variable", setting.variable)] if setting.variable else []
        yield from (f"  {line}" for line in aligned(facts))
        yield from textwrap.wrap(setting.text, 96, initial_indent="  ", subsequent_indent="  ")


def shown(value: Any) -> str:
    """As TOML writes it; TOML has nothing for what is not set."""
    return "not set" if value is None else msgspec.json.encode(value).decode()


def _explained(setting: EffectiveSetting) -> ExplainedSetting:
    path = tuple(step for step in setting.path if isinstance(step, str))
    doc = documentation_of(path) or documentation_of(path[:-1])
    default = None if doc is None or doc.default is msgspec.UNSET else doc.default
    in_table = doc is not None and len(doc.path) < len(path)  # surfaces: the file names them
    return ExplainedSetting(
        setting=words(setting.path),
        value=_masked(setting),
        source=setting.source,
        default=None if in_table else default,
        required=doc is not None and doc.default is msgspec.UNSET,
        kind="" if doc is None or in_table else doc.kind,
        text="" if doc is None else doc.text,
        variable=None if doc is None else doc.variable,
    )


def _masked(setting: EffectiveSetting) -> Any:
    """A key that signs or opens, and the digest of one, are nobody's to read here."""
    path = setting.path
    if path in _URLS and setting.value is not None:
        return redacted(setting.value)
    is_secret = path in _KEYS or path[:2] == ("events", "keys") or path[-1] == "sha256"
    return MASK if is_secret and setting.value else setting.value


def _default(setting: ExplainedSetting) -> str:
    return shown(setting.default)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
