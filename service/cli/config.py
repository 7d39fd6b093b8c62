"""``podium config``: whether settings can be used, and what is in effect."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.answers import AsJson, print_json, print_lines
from service.cli.exit_codes import ExitCode
from service.cli.settings_flags import (
    FLAGS,
    ConfigFile,
    Host,
    Port,
    RedisUrl,
    StateDirectory,
    Workers,
    flags_given,
    settings_file,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from service.settings.checking import SettingProblem

app = typer.Typer(
    help="Check settings, and say what is in effect and why.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def check(
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    redis_url: RedisUrl = None,
    state_directory: StateDirectory = None,
    as_json: AsJson = False,
) -> int:
    """Say everything that is wrong with settings, environment variables and experiments.

    Nothing is started or connected to; podium doctor looks at the machine and the servers.
    Takes the flags of podium serve, so that the same command line can be checked.

    Example: podium config check --config podium.toml
    """
    from service.doctor.configuration import configuration_problems

    file = settings_file(config)
    flags = flags_given(host, port, workers, redis_url, state_directory)
    problems = configuration_problems(file, flags=flags)
    if as_json:
        print_json({"file": file, "fine": not problems, "problems": problems})
    else:
        print_lines(_verdict(file, problems))
    return ExitCode.FAILED if problems else ExitCode.DONE


def _verdict(file: "Path", problems: "Sequence[SettingProblem]") -> list[str]:
    if not problems:
        return [f"{file}: fine, with its experiments and the environment"]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return [*map(str, problems), count]


@app.command()
def explain(
    key: Annotated[
        str | None,
        typer.Argument(
            help="One setting, such as server.port, or a table, such as cache; shown with what "
            "it means and may be.",
            metavar="KEY",
        ),
    ] = None,
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    redis_url: RedisUrl = None,
    state_directory: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Show every setting in effect, and where it comes from: default, file, environment or flag.

    Passwords and keys are masked.

    Examples: podium config explain --config podium.toml

    podium config explain server.port
    """
    from service.cli.config_lines import chosen, explained, key_lines, table_lines
    from service.settings.origins import effective_settings

    settings = explained(
        effective_settings(
            settings_file(config),
            flags=flags_given(host, port, workers, redis_url, state_directory),
            flag_names=FLAGS,
        )
    )
    found = settings if key is None else chosen(settings, key)
    if as_json:
        return print_json({"file": settings_file(config), "settings": found})
    return print_lines(table_lines(found) if key is None else key_lines(found))
