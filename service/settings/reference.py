"""The page about all settings, written from the settings tree itself.

python -m service.settings.reference     writes service/settings/README.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from service.settings.documentation import NAME, SectionDoc, SettingDoc, sections

FILE = Path(__file__).parent / "README.md"

_HEAD = """# Settings

One TOML file, `podium serve --config podium.toml`; a setting that is left out has its default.
`make reference` writes this page from the settings themselves
([tree.py](tree.py)); [deploy/settings.example.toml](../../deploy/settings.example.toml) is a file
with all of them in it.

- **Precedence**: a flag, then the environment variable, then the file, then the default.
- **Environment variables** are named in the tables below; lists and tables are JSON there, and
  replace the whole list or table.
- `podium config check` says everything that is wrong with a file, and
  `podium config explain [KEY]` what is in effect and where it comes from.
- Relative paths start from the settings file's folder. Unknown keys are refused.

"""


def reference() -> str:
    """The page."""
    first, *others = sections()
    shown = [*others, first]
    return _HEAD + "\n".join(line for section in shown for line in _section(section))


def _section(section: SectionDoc) -> Iterator[str]:
    yield f"## {_title(section.path)}\n"
    if section.path:
        yield f"{section.text}\n"
    if section.settings:
        yield "| setting | may be | default | what it does |"
        yield "|---|---|---|---|"
        yield from (_row(setting) for setting in section.settings)
        yield ""


def _title(path: tuple[str, ...]) -> str:
    """As the file writes the table's header."""
    header = f"[{'.'.join(path)}]".replace(NAME, "NAME")
    is_list = path == ("auth", "keys")
    return f"`{f'[{header}]' if is_list else header}`" if path else "At the top of the file"


def _row(setting: SettingDoc) -> str:
    name = f"`{setting.path[-1]}`" + (f"<br>`{setting.variable}`" if setting.variable else "")
    cells = (name, setting.kind, _default(setting.default), setting.text)
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _default(default: Any) -> str:
    if default is msgspec.UNSET:
        return "has to be given"
    return "not set" if default is None else f"`{msgspec.json.encode(default).decode()}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"wrote {FILE}\n")
