"""``podium experiment replay``: what another policy would have earned, from a log."""

import io
import zipfile
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.answers import AsJson, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from experiments.replay import Log, Policy


class Campaign(StrEnum):
    """Campaigns of the Open Bandit dataset."""

    all = "all"
    men = "men"
    women = "women"


def replay(
    log: Annotated[
        Path,
        typer.Argument(
            help="CSV or NDJSON with action, reward, propensity and perhaps position, "
            "context, cluster, target_propensity; `-` is standard input.",
            show_default=False,
        ),
    ],
    policy: Annotated[
        Path | None,
        typer.Option(
            help="CSV or NDJSON with action and probability (or score), perhaps position, context."
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            help="LOG holds events as sent to POST /v1/events; the actions are "
            "the variants of this experiment.",
            metavar="KEY",
        ),
    ] = None,
    phase: Annotated[int | None, typer.Option(help="Only this phase of the experiment.")] = None,
    open_bandit: Annotated[
        Campaign | None,
        typer.Option(
            help="LOG is the wheel obp==0.4.1; replays its random log for its BTS policy."
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999)] = 0.95,
    minimum_effective_rows: Annotated[
        float, typer.Option(min=2, help="Below it there is no answer.")
    ] = 100.0,
    as_json: AsJson = False,
) -> None:
    """What a policy would have earned per row shown, by SNIPS, DR, IPS and replay.

    Refuses where the log cannot tell: too few rows that count, choices that the
    log never shows, propensities that are not its own.

    Example: podium experiment replay shown.csv --policy candidate.csv
    """
    from experiments.replay import ReplayRefused, TableInvalid, evaluate, render_replay
    from ranking_models.errors import InputError

    if open_bandit is not None and (policy is not None or experiment is not None):
        raise typer.BadParameter("--open-bandit brings its own log and policy")
    try:
        rows, target = (
            _log_and_policy(log, policy, experiment, phase)
            if open_bandit is None
            else _open_bandit(log, open_bandit.value)
        )
        found = evaluate(
            rows, target, confidence=confidence, minimum_effective_rows=minimum_effective_rows
        )
    except (TableInvalid, ReplayRefused) as error:
        raise InputError(str(error)) from None
    print_json(found) if as_json else print(render_replay(found))


def _log_and_policy(
    log: Path, policy: Path | None, experiment: str | None, phase: int | None
) -> "tuple[Log, Policy | None]":
    rows = _log(log, experiment, phase)
    return rows, None if policy is None else _policy(policy, rows)


def _log(path: Path, experiment: str | None, phase: int | None) -> "Log":
    from experiments.replay import log_of, read_log

    with _text(path) as lines:
        if experiment is None:
            return read_log(lines, where=str(path))
        from service.events.replay_rows import read_event_log

        found = read_event_log(lines, experiment, phase=phase, where=str(path))
    return log_of(found.rows, where=f"{path}, experiment {experiment!r}")


def _policy(path: Path, log: "Log") -> "Policy":
    from experiments.replay import read_policy

    with _text(path) as lines:
        return read_policy(lines, log, where=str(path))


def _open_bandit(wheel: Path, campaign: str) -> "tuple[Log, Policy]":
    from experiments.replay import open_bandit, policy_of
    from ranking_models.errors import InputError

    try:
        with zipfile.ZipFile(wheel) as files:
            path = open_bandit.log_path("random", campaign)
            with files.open(path) as rows, files.open(open_bandit.PRIOR_PATH) as prior:
                log = open_bandit.read_open_bandit(io.TextIOWrapper(rows), where=path)
                entries = open_bandit.thompson_sampling(io.TextIOWrapper(prior), campaign)
                return log, policy_of(entries, log, where=open_bandit.PRIOR_PATH)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise InputError(
            f"{wheel}: {error}; `pip download --no-deps obp==0.4.1` fetches the wheel"
        ) from None


@contextmanager
def _text(path: Path) -> "Iterator[TextIO]":
    import sys

    from ranking_models.errors import InputError

    try:
        if str(path) == "-":
            yield sys.stdin
            return
        with path.open(encoding="utf-8", newline="") as lines:
            yield lines
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {error}") from None
