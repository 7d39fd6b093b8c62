"""Settings that a flag can set: for ``serve``, and for what looks at the same settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Settings file (TOML). Without it: the demonstration.", metavar="FILE"
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port; 0 picks a free one.", min=0, max=65_535)]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that serve; 0: as suits the machine.", min=0, max=256),
]
RedisUrl = Annotated[
    str | None, typer.Option(help="Redis or Valkey in place of the embedded servers.")
]
StateDirectory = Annotated[
    Path | None, typer.Option(help="Embedded servers, signing key and spool.", metavar="DIR")
]

FLAGS = {
    ("server", "host"): "--host",
    ("server", "port"): "--port",
    ("server", "workers"): "--workers",
    ("redis", "url"): "--redis-url",
    ("state_directory",): "--state-directory",
}
"""Which setting a flag sets."""


def settings_file(config: Path | None) -> Path:
    """The settings file that is meant."""
    from service.settings import demo_settings_file

    return config or demo_settings_file()


def flags_given(
    host: str | None,
    port: int | None,
    workers: int | None,
    redis_url: str | None,
    state_directory: Path | None,
) -> "Mapping[tuple[str, ...], object]":
    """Settings by flags; a folder starts from where we are, not from the settings file."""
    folder = None if state_directory is None else str(state_directory.absolute())
    values = (host, port, workers, redis_url, folder)
    return {path: value for path, value in zip(FLAGS, values, strict=True) if value is not None}
