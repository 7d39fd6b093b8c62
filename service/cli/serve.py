"""``podium serve``: the service, until SIGTERM."""

import sys
from typing import TYPE_CHECKING

from service.cli.answers import AsJson, print_json
from service.cli.settings_flags import (
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
    from service.serving import Serving


def serve(
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    redis_url: RedisUrl = None,
    state_directory: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Serve rankings over HTTP.

    With --json the address is printed as one document as soon as requests are taken.
    Ctrl-C and SIGTERM end it once all that is under way is answered, with exit code 0.

    Example: podium serve --config podium.toml --port 8080
    """
    from service.serving import serve_until_stopped
    from service.settings import load_settings

    loaded = load_settings(
        settings_file(config),
        flags=flags_given(host, port, workers, redis_url, state_directory),
    )
    serve_until_stopped(loaded, ready=_print if as_json else None)


def _print(serving: "Serving") -> None:
    print_json(serving)
    sys.stdout.flush()
