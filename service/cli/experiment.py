"""``podium experiment``: read experiments of a running service."""

from typing import Annotated, Any, TypeVar

import typer

Reply = TypeVar("Reply")

app = typer.Typer(
    help="Read the experiments of a running service.", no_args_is_help=True, rich_markup_mode=None
)

Url = Annotated[str, typer.Option(help="Where the service listens.", metavar="URL")]
Key = Annotated[
    str | None, typer.Option(envvar="PODIUM_API_KEY", help="API key with the scope `read`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="The service's JSON answer as it is.")]

HERE = "http://127.0.0.1:8080"


@app.command("list")
def list_experiments(url: Url = HERE, api_key: Key = None, as_json: AsJson = False) -> None:
    """Every experiment with its state, traffic and variants.

    Example: podium experiment list --url http://127.0.0.1:8080
    """
    from service.messages import ExperimentsReply

    body, reply = _get(url, "/v1/experiments", api_key, ExperimentsReply)
    if as_json:
        return print(body)
    for found in reply.experiments:
        shares = ", ".join(f"{v.name} {v.share_bp / 100:g} %" for v in found.variants)
        phase = f"phase {found.phase}, {found.traffic_bp / 100:g} % of the traffic"
        print(f"{found.key}: {found.state}, {phase}, {shares}")
    if not reply.experiments:
        print("no experiments are defined; see experiments.file in the settings")
    return None


@app.command("report")
def report(
    key: Annotated[str, typer.Argument(help="The experiment's key.")],
    url: Url = HERE,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """CTR, latency and cache figures per variant, with intervals.

    Example: podium experiment report demo-ranker
    """
    from urllib.parse import quote

    from experiments.report import Report, render_text

    path = f"/v1/experiments/{quote(key, safe='')}/report"
    body, found = _get(url, path, api_key, Report)
    return print(body if as_json else render_text(found))


def _get(url: str, path: str, api_key: str | None, kind: type[Reply]) -> tuple[str, Reply]:
    """An answer with status 200, as it is and decoded.

    Raises:
        InputError: nobody can be reached, Podium refused, or it is not Podium that answers.
    """
    import httpx
    import msgspec

    from ranking_models.errors import InputError

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        # Not through a proxy of the environment: the URL names the service itself.
        response = httpx.get(url.rstrip("/") + path, headers=headers, timeout=10, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"no answer from {url} ({reason}); is podium serve running?") from None
    except UnicodeEncodeError:
        raise InputError("the API key has characters that no HTTP header takes") from None
    if response.status_code != httpx.codes.OK:
        raise InputError(f"{url}{path}: {_refusal(response)}")
    try:
        return response.text, msgspec.json.decode(response.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{url}{path}: the answer is not Podium's: {error}") from None


def _refusal(response: Any) -> str:
    import msgspec

    from service.messages import Problem

    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"HTTP {response.status_code}, and no answer of Podium's"
    return f"{problem.code}: {problem.detail}"
