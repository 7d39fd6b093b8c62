"""``podium experiment force-token``: let somebody see a variant without an admin's key."""

import re
from typing import Annotated

import typer

_OPTIONS = {"$.variant": "VARIANT", "$.unit": "--unit", "$.ttl_s": "--ttl, in seconds"}
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def force_token(
    key: Annotated[str, typer.Argument(help="The experiment's key.")],
    variant: Annotated[str, typer.Argument(help="The variant to be served.")],
    unit: Annotated[
        str | None, typer.Option(help="The only user or session id that it works for.")
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it works: 90s, 30m, 8h or 7d.")] = "1h",
    url: Annotated[
        str, typer.Option(help="Where the service listens.", metavar="URL")
    ] = "http://127.0.0.1:8080",
    api_key: Annotated[
        str | None, typer.Option(envvar="PODIUM_API_KEY", help="API key with the scope `admin`.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The service's JSON answer as it is.")
    ] = False,
) -> None:
    """A token to send as `force_token`: whoever has it sees this variant, and is not counted.

    Example: podium experiment force-token demo-ranker dcn-fp32 --unit u42 --ttl 8h
    """
    from urllib.parse import quote

    import msgspec

    from ranking_models.errors import InputError
    from service.cli.calls import call
    from service.errors import split_place
    from service.messages import ForceToken, ForceTokenRequest

    try:
        wanted = msgspec.convert(
            {"variant": variant, "unit": unit, "ttl_s": _seconds(ttl)}, ForceTokenRequest
        )
    except msgspec.ValidationError as error:
        what, path = split_place(error)
        raise InputError(f"{_OPTIONS[path]}: {what}") from None
    path = f"/v1/experiments/{quote(key, safe='')}/force-tokens"
    body, made = call(url, path, api_key, ForceToken, body=wanted)
    print(body if as_json else made.token)


def _seconds(text: str) -> int:
    from ranking_models.errors import InputError

    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None:
        raise InputError(f"--ttl takes a number and s, m, h or d, such as 8h; got {text!r}")
    return int(found[1]) * _UNITS_S[found[2]]
