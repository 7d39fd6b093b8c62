"""A small trained run with its log, to make smaller ones from."""

from pathlib import Path

from ranking_models.architectures import Architecture
from ranking_models.compression import Origin, origin_of
from ranking_models.fitting import FitOptions
from ranking_models.logs import Logs, read_logs
from ranking_models.run import TrainedRun
from ranking_models.train import train_run
from tests.support.logs import small_tables, write_log
from tests.support.training import NETWORK, OPTIONS, Recorder


def small_logs(folder: Path, *, seed: int = 0) -> Logs:
    return read_logs(write_log(folder, small_tables(seed=seed)))


def trained_run(
    logs: Logs, architecture: Architecture = NETWORK, options: FitOptions = OPTIONS
) -> TrainedRun:
    return train_run(
        logs,
        architecture,
        options,
        split="user",
        directory=Path("runs/large"),
        progress=Recorder(),
    )


def small_origin(folder: Path, architecture: Architecture = NETWORK) -> Origin:
    logs = small_logs(folder)
    return origin_of(trained_run(logs, architecture), logs)
