"""``podium experiment start``, ``pause``, ``ramp``, ...: change running experiments."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.calls import call

if TYPE_CHECKING:
    from experiments.decisions import DecisionRecord
    from experiments.standing import Standing
    from service.messages import ExperimentChange

Key = Annotated[str, typer.Argument(help="The experiment's key.")]
Url = Annotated[str, typer.Option(help="Where the service listens.", metavar="URL")]
Admin = Annotated[
    str | None,
    typer.Option(
        envvar="PODIUM_API_KEY",
        help="API key with the scope `admin`; none is needed on loopback without keys.",
    ),
]
Reader = Annotated[
    str | None, typer.Option(envvar="PODIUM_API_KEY", help="API key with the scope `read`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="The service's JSON answer as it is.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log.")]
Generation = Annotated[
    int | None,
    typer.Option(help="Change it only if it has this generation still.", metavar="N"),
]

HERE = "http://127.0.0.1:8080"


def start(
    key: Key,
    reason: Reason = "",
    if_generation: Generation = None,
    url: Url = HERE,
    api_key: Admin = None,
    as_json: AsJson = False,
) -> None:
    """Start an experiment, or go on with it after a pause.

    Out of an A/A phase, or after its end, a new phase begins.

    Example: podium experiment start demo-ranker --reason "the new model is loaded"
    """
    _change("start", key, url, api_key, as_json, _said(reason, if_generation))


def pause(
    key: Key,
    reason: Reason = "",
    if_generation: Generation = None,
    url: Url = HERE,
    api_key: Admin = None,
    as_json: AsJson = False,
) -> None:
    """Assign nobody for now: all are served by the surface's own deployment.

    Example: podium experiment pause demo-ranker --reason "sale today"
    """
    _change("pause", key, url, api_key, as_json, _said(reason, if_generation))


def ramp(
    key: Key,
    stage: Annotated[
        int | None, typer.Option(help="The stage, from 0; the next one without it.", min=0)
    ] = None,
    traffic_bp: Annotated[
        int | None,
        typer.Option(help="A share of the traffic, in basis points.", min=1, max=10_000),
    ] = None,
    reason: Reason = "",
    if_generation: Generation = None,
    url: Url = HERE,
    api_key: Admin = None,
    as_json: AsJson = False,
) -> None:
    """Move the traffic to the next stage, to a stage or to a share; a new phase begins.

    Example: podium experiment ramp demo-ranker --traffic-bp 2000
    """
    from msgspec.structs import replace

    said = _said(reason, if_generation)
    wanted = replace(said, stage=stage, traffic_bp=traffic_bp)
    _change("ramp", key, url, api_key, as_json, wanted)


def promote(
    key: Key,
    variant: Annotated[
        str | None,
        typer.Option(help="The variant; may be left out where the control has one rival only."),
    ] = None,
    reason: Reason = "",
    if_generation: Generation = None,
    url: Url = HERE,
    api_key: Admin = None,
    as_json: AsJson = False,
) -> None:
    """Serve every eligible unit by one variant.

    Example: podium experiment promote demo-ranker --variant dcn-fp32
    """
    from msgspec.structs import replace

    wanted = replace(_said(reason, if_generation), variant=variant)
    _change("promote", key, url, api_key, as_json, wanted)


def rollback(
    key: Key,
    reason: Reason = "",
    if_generation: Generation = None,
    url: Url = HERE,
    api_key: Admin = None,
    as_json: AsJson = False,
) -> None:
    """Serve everybody by the surface's own deployment, until it is started again.

    Example: podium experiment rollback demo-ranker --reason "pages are slow"
    """
    _change("rollback", key, url, api_key, as_json, _said(reason, if_generation))


def stop(
    key: Key,
    reason: Reason = "",
    if_generation: Generation = None,
    url: Url = HERE,
    api_key: Admin = None,
    as_json: AsJson = False,
) -> None:
    """End an experiment; its part of the layer is free.

    Example: podium experiment stop demo-ranker --reason "enough seen"
    """
    _change("stop", key, url, api_key, as_json, _said(reason, if_generation))


def decisions(
    key: Key,
    limit: Annotated[int, typer.Option(help="How many, the newest.", min=1, max=1_000)] = 50,
    url: Url = HERE,
    api_key: Reader = None,
    as_json: AsJson = False,
) -> None:
    """Who changed an experiment, when and why; the newest first.

    Example: podium experiment decisions demo-ranker --limit 10
    """
    from service.messages import DecisionsReply

    body, found = call(url, f"{_path(key)}/decisions?limit={limit}", api_key, DecisionsReply)
    if as_json:
        return print(body)
    for record in found.decisions:
        print(_decision_line(record))
    return None


def standing_words(standing: "Standing") -> str:
    """A standing as a person reads it: state, phase, traffic."""
    state = f"promoted {standing.promoted}" if standing.promoted else standing.state
    parts = [state, f"phase {standing.phase}"]
    if standing.stage is not None:
        parts.append(f"stage {standing.stage}")
    if standing.traffic_bp is not None:
        parts.append(f"{standing.traffic_bp / 100:g} % of the traffic")
    return ", ".join(parts)


def _decision_line(record: "DecisionRecord") -> str:
    at = datetime.fromtimestamp(record.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    action = f"{record.action} (dry run)" if record.dry_run else record.action
    after = "" if record.after is None else f": {standing_words(record.after)}"
    reason = " ".join(record.reason.split())
    return f"{at}  {action} by {record.by}{after}" + (f" ({reason})" if reason else "")


def _change(
    verb: str,
    key: str,
    url: str,
    api_key: str | None,
    as_json: bool,
    wanted: "ExperimentChange",
) -> None:
    from experiments.standing import Standing

    body, made = call(url, f"{_path(key)}/{verb}", api_key, Standing, body=wanted)
    print(body if as_json else f"{key}: {standing_words(made)}, generation {made.generation}")


def _said(reason: str, if_generation: int | None) -> "ExperimentChange":
    from service.messages import ExperimentChange

    return ExperimentChange(reason=reason, if_generation=if_generation)


def _path(key: str) -> str:
    from urllib.parse import quote

    return f"/v1/experiments/{quote(key, safe='')}"
