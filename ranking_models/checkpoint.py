"""Training that survives a kill: its state, kept beside the run that it will become.

    runs/.../<out>.training/checkpoint.npz

One file, so that it is replaced whole or not at all: the arrays of the round
under way, and as ``state`` the JSON of everything else. Nothing is pickled.
"""

import contextlib
import hashlib
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from ranking_models.architectures import Architecture
from ranking_models.errors import InputError
from ranking_models.fitting import FitOptions, Found, Kept, Place
from ranking_models.logs import Logs
from ranking_models.manifest import CandidateFigures, Quality

FORMAT = 1

EVERY_S = 30.0
"""Seconds of training that a kill costs at most."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is trained; a checkpoint of one plan is worth nothing to another."""

    log: str
    """SHA-256 over the log; see `log_digest`."""
    architecture: Architecture
    options: FitOptions
    split: str
    release_on: str
    parent: str | None
    """``name@version`` of the bundle that is trained further."""
    tools: dict[str, str]
    """Package to version: another one may round in another way."""


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which round of training is under way, and what the earlier ones found."""

    phase: str
    found: Found | None = None
    quality: Quality | None = None
    candidates: CandidateFigures | None = None


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON in the file."""

    format: int
    plan: Plan
    stage: Stage
    place: Place


class Checkpoints:
    """Keeps one training's state in a folder, at most every so many seconds.

    Used by the training thread alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resume: bool = False,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._resume, self._every_s, self._clock = resume, every_s, clock
        self._kept_at = clock()
        self._plan: Plan | None = None
        self._found: tuple[Stage, Kept] | None = None

    def open(self, plan: Plan) -> Stage | None:
        """Begin this plan, or go on with it where a killed training stood.

        Raises:
            InputError: there is nothing to resume, or it is damaged or of another plan.
        """
        self._plan = plan
        if not self._resume:
            return None
        state, arrays = _read(self.folder / _FILE)
        _check_same(self.folder, state.plan, plan)
        self._found = state.stage, Kept(place=state.place, arrays=arrays)
        return state.stage

    def round(self, stage: Stage) -> "Round":
        """The keeper of one round."""
        return Round(self, stage)

    def found(self, stage: Stage) -> Kept | None:
        """What was kept of a round before this process."""
        return self._found[1] if self._found and self._found[0] == stage else None

    def due(self) -> bool:
        return self._clock() - self._kept_at >= self._every_s

    def keep(self, stage: Stage, kept: Kept) -> None:
        """Replace the checkpoint.

        Raises:
            InputError: it cannot be written; the one before it stays.
        """
        assert self._plan is not None
        state = _State(format=FORMAT, plan=self._plan, stage=stage, place=kept.place)
        content = np.frombuffer(msgspec.json.encode(state), np.uint8)
        unfinished = self.folder / _UNFINISHED
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(file, allow_pickle=False, state=content, **kept.arrays)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.folder / _FILE)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"{self.folder}: a checkpoint cannot be written: {reason}; "
                "free space, and go on from the one before it with --resume"
            ) from error
        self._kept_at = self._clock()

    def remove(self) -> None:
        """Forget the training: it is done, or starts over. What others put there stays."""
        # The folder may be somebody's: its name is also a run's.
        with contextlib.suppress(OSError):
            for name in (_FILE, _UNFINISHED):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()


class Round(msgspec.Struct, frozen=True):
    """A `Keeper` of one round."""

    _checkpoints: Checkpoints
    _stage: Stage

    def start(self) -> Kept | None:
        return self._checkpoints.found(self._stage)

    def due(self) -> bool:
        return self._checkpoints.due()

    def keep(self, kept: Kept) -> None:
        self._checkpoints.keep(self._stage, kept)


_FILE = "checkpoint.npz"
_UNFINISHED = "checkpoint.new"


def folder_of(out: Path) -> Path:
    """Where the checkpoints of a run are kept."""
    return out.with_name(f"{out.name}.training")


def check_not_under_way(out: Path) -> None:
    """Refuse to start over, unasked, what a killed training left.

    Raises:
        InputError: a checkpoint is there.
    """
    folder = folder_of(out)
    if (folder / _FILE).exists():
        raise InputError(
            f"{folder}: a training of {out} was cut short; go on with --resume, "
            "or start over with --force"
        )


def log_digest(logs: Logs) -> str:
    """SHA-256 over everything of a log that training reads."""
    digest = hashlib.sha256(msgspec.json.encode(logs.declared))
    for entities in (logs.users, logs.items):
        digest.update(msgspec.json.encode(entities.ids))
    for factors in (logs.users.features, logs.items.features, logs.context):
        for name, factor in factors.items():
            digest.update(msgspec.json.encode([name, factor.values]))
            digest.update(factor.codes.tobytes())
    for array in (logs.user, logs.item, logs.unit, logs.seconds, logs.label):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read(file: Path) -> tuple[_State, dict[str, np.ndarray]]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        state = msgspec.json.decode(arrays.pop("state").tobytes(), type=_State)
    except FileNotFoundError:
        raise InputError(
            f"{file.parent}: there is no checkpoint to resume; leave --resume out"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{file}: is damaged: {error}; start over with --force, without --resume"
        ) from None
    if state.format != FORMAT:
        raise InputError(f"{file}: format {state.format}, this version reads {FORMAT}")
    return state, arrays


def _check_same(folder: Path, kept: Plan, asked: Plan) -> None:
    before, now = msgspec.to_builtins(kept), msgspec.to_builtins(asked)
    options_before, options_now = before.pop("options"), now.pop("options")
    before |= options_before
    now |= options_now
    other = [key.replace("_", " ") for key in now if before[key] != now[key]]
    if other:
        raise InputError(
            f"{folder}: the checkpoint is of another training ({', '.join(other)} differs); "
            "resume with the same log and options, or start over with --force"
        )
