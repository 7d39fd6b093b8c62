"""A training that was killed goes on as if it had not been, and with nothing else's state."""

import errno
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.checkpoint import Checkpoints, check_not_under_way, folder_of
from ranking_models.errors import InputError
from ranking_models.fitting import FitOptions
from ranking_models.logs import Logs, read_logs
from ranking_models.run import ReleaseOn, TrainedRun
from ranking_models.train import train_run
from tests.support.logs import small_tables, write_log
from tests.support.training import NETWORK, OPTIONS, Recorder

FEW_EPOCHS = replace(OPTIONS, epochs=3)


class Killed(BaseException):
    """Nothing in training may catch it."""


class Fatal(Recorder):
    """Kills training after so many steps."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self.after = after

    def step(self, epoch: int, loss: float) -> None:
        if self.steps == self.after:
            raise Killed
        super().step(epoch, loss)


class Later(Recorder):
    """Does not expect to hear of the first epoch."""

    def validated(self, epoch: int, log_loss: float, auc: float) -> None:
        self.losses.append(log_loss)


class FatalLater(Fatal, Later):
    """Both."""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return read_logs(write_log(tmp_path_factory.mktemp("log"), small_tables()))


def trained(
    logs: Logs,
    checkpoints: Checkpoints | None,
    *,
    progress: Recorder | None = None,
    options: FitOptions = FEW_EPOCHS,
    release_on: ReleaseOn = "all",
) -> TrainedRun:
    return train_run(
        logs,
        NETWORK,
        options,
        split="user",
        release_on=release_on,
        directory=Path("runs/small"),
        progress=progress or Recorder(),
        checkpoints=checkpoints,
    )


@pytest.fixture(scope="module")
def undisturbed(logs: Logs) -> TrainedRun:
    return trained(logs, None)


def kill(logs: Logs, folder: Path, *, after: int, options: FitOptions = FEW_EPOCHS) -> None:
    with pytest.raises(Killed):
        trained(logs, Checkpoints(folder, every_s=0), progress=Fatal(after=after), options=options)


STEPS = 6  # of an epoch of the search; the later rounds have one or two more


@pytest.mark.parametrize(
    "after",
    [2, STEPS, STEPS + 1, 3 * STEPS + 2, 5 * STEPS + 2, 8 * STEPS + 3],
    ids=["first epoch", "its end", "second epoch", "measured", "measured again", "final"],
)
def test_a_resumed_training_ends_with_the_same_bits(
    logs: Logs, undisturbed: TrainedRun, tmp_path: Path, after: int
) -> None:
    kill(logs, tmp_path, after=after)
    heard = Later()

    again = trained(logs, Checkpoints(tmp_path, resume=True), progress=heard)

    assert heard.done[0] > 0, "it did not start from nothing"
    for name, weights in undisturbed.weights.items():
        assert np.array_equal(again.weights[name], weights)
    assert again.quality == undisturbed.quality
    assert again.training == undisturbed.training


def test_a_training_that_is_killed_twice_still_ends_with_the_same_bits(
    logs: Logs, undisturbed: TrainedRun, tmp_path: Path
) -> None:
    kill(logs, tmp_path, after=3)
    again = FatalLater(after=STEPS + 2)
    with pytest.raises(Killed):
        trained(logs, Checkpoints(tmp_path, resume=True, every_s=0), progress=again)

    made = trained(logs, Checkpoints(tmp_path, resume=True), progress=Later())

    for name, weights in undisturbed.weights.items():
        assert np.array_equal(made.weights[name], weights)


def test_double_precision_is_kept_in_double_precision(logs: Logs, tmp_path: Path) -> None:
    double = replace(FEW_EPOCHS, double=True)
    kill(logs, tmp_path, after=8, options=double)

    again = trained(logs, Checkpoints(tmp_path, resume=True), options=double, progress=Later())

    whole = trained(logs, None, options=double)
    for name, weights in whole.weights.items():
        assert np.array_equal(again.weights[name], weights)


def test_other_options_and_other_data_are_refused_by_name(logs: Logs, tmp_path: Path) -> None:
    kill(logs, tmp_path, after=2)
    other = replace(logs, label=1 - logs.label)

    with pytest.raises(InputError, match=r"another training \(learning rate, seed differs\)"):
        trained(
            logs,
            Checkpoints(tmp_path, resume=True),
            options=replace(FEW_EPOCHS, learning_rate=0.5, seed=4),
        )
    with pytest.raises(InputError, match=r"another training \(log differs\)"):
        trained(other, Checkpoints(tmp_path, resume=True))


def test_nothing_to_resume_and_a_damaged_checkpoint_are_said(logs: Logs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no checkpoint to resume"):
        trained(logs, Checkpoints(tmp_path / "none", resume=True))

    kill(logs, tmp_path, after=2)
    file = tmp_path / "checkpoint.npz"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged"):
        trained(logs, Checkpoints(tmp_path, resume=True))


def test_a_checkpoint_is_due_after_its_time_and_not_before(tmp_path: Path) -> None:
    now = [100.0]
    checkpoints = Checkpoints(tmp_path, every_s=30, clock=lambda: now[0])

    now[0] = 129.9
    assert not checkpoints.due()
    now[0] = 130.0
    assert checkpoints.due()


def test_a_full_disk_leaves_the_checkpoint_before_it(
    logs: Logs, undisturbed: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(logs, tmp_path, after=4)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("ranking_models.checkpoint.os.fsync", full)
        with pytest.raises(InputError, match=r"cannot be written: No space left.*--resume"):
            trained(logs, Checkpoints(tmp_path, resume=True, every_s=0))

    made = trained(logs, Checkpoints(tmp_path, resume=True), progress=Later())
    assert np.array_equal(made.weights["body.head.weight"], undisturbed.weights["body.head.weight"])


def test_a_training_that_was_cut_short_is_not_started_over_unasked(
    logs: Logs, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    check_not_under_way(out)
    kill(logs, folder_of(out), after=2)

    with pytest.raises(InputError, match=r"cut short; go on with --resume, or start over"):
        check_not_under_way(out)
    Checkpoints(folder_of(out)).remove()
    check_not_under_way(out)


def test_forgetting_a_training_leaves_what_is_not_its_own(logs: Logs, tmp_path: Path) -> None:
    checkpoints = Checkpoints(folder_of(tmp_path / "run"), every_s=0)
    with pytest.raises(Killed):
        trained(logs, checkpoints, progress=Fatal(after=2))
    notes = checkpoints.folder / "run.json"  # the run of somebody who named it run.training
    notes.write_text("{}")
    checkpoints.remove()
    assert list(checkpoints.folder.iterdir()) == [notes]
    notes.unlink()
    checkpoints.remove()
    assert not checkpoints.folder.exists()
    checkpoints.remove()
