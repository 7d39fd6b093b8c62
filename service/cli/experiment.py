"""``podium experiment``: read and change experiments of a running service."""

import sys
from typing import Annotated

import typer

from service.cli import experiment_changes, experiment_report
from service.cli.calls import call
from service.cli.force_token import force_token

app = typer.Typer(
    help="Read and change the experiments of a running service.",
    no_args_is_help=True,
    rich_markup_mode=None,
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

    body, reply = call(url, "/v1/experiments", api_key, ExperimentsReply)
    if as_json:
        return print(body)
    for found in reply.experiments:
        shares = ", ".join(f"{v.name} {v.share_bp / 100:g} %" for v in found.variants)
        phase = f"phase {found.phase}, {found.traffic_bp / 100:g} % of the traffic"
        state = f"promoted {found.promoted}" if found.promoted else found.state
        waits = f"; nobody is assigned: {found.unready}" if found.unready else ""
        print(f"{found.key}: {state}, {phase}, {shares}{waits}")
    if not reply.experiments:
        print("no experiments are defined; see experiments.file in the settings")
    if reply.source.problem is not None:
        print(f"not the newest ({reply.source.status}): {reply.source.problem}", file=sys.stderr)
    return None


app.command("report")(experiment_report.report)
app.command("start")(experiment_changes.start)
app.command("pause")(experiment_changes.pause)
app.command("ramp")(experiment_changes.ramp)
app.command("promote")(experiment_changes.promote)
app.command("rollback")(experiment_changes.rollback)
app.command("stop")(experiment_changes.stop)
app.command("decisions")(experiment_changes.decisions)
app.command("force-token")(force_token)
