"""A trained run: everything that export needs, as JSON and plain arrays on disk.

    runs/movielens-100k/
      run.json         architecture, feature schema, quality, data source, training options
      weights.npz      the network's parameters by name
      items.npz        ids and encoded features, one row per item; users.npz likewise
      candidates.npz   popularity order, and candidates per anchor item
      held_out.npz     encoded test impressions: labels, who saw them, row numbers in the log
      calibration.npz  encoded impressions for INT8 calibration, which nothing was trained on

Nothing is pickled, and nothing that is pickled is read.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.architectures import Architecture
from ranking_models.bundle.layout import NAME
from ranking_models.errors import InputError
from ranking_models.fitting import FitOptions
from ranking_models.folders import new_folder
from ranking_models.manifest import CandidateFigures, DataSource, Lineage, Quality
from ranking_models.nn import RankingNetwork, restore
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32, Int32
from ranking_models.split import Rows

FORMAT = 2

Arrays = Mapping[str, npt.NDArray[Any]]


ReleaseOn = Literal["rest", "all"]
"""What the released weights have seen: all rows but the test's, or these too."""


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights came about; with the same log it makes them again."""

    options: FitOptions
    split: str
    epochs: int
    """That the weights were trained for: what was best on the validation rows."""
    validation_log_loss: float | None
    """At that epoch, before the final round on training and validation rows; None where it was
    not chosen by validation rows."""
    tools: dict[str, str]
    """Package to version."""
    release_on: ReleaseOn = "rest"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All items, or all users: ids, and one encoded row each in the columns of that source."""

    ids: tuple[str, ...]
    features: FeatureBatch


class TrainedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What ``podium train`` leaves.

    Shapes:
        ``items.features`` has the columns of ``schema.of("item")``,
        ``users.features`` those of ``schema.of("user")``, ``held_out`` all.
    """

    directory: Path
    name: str
    architecture: Architecture
    schema: FeatureSchema
    weights: dict[str, npt.NDArray[Any]]
    items: Table
    users: Table
    popularity: Int32
    """Item positions, best first, ``[items]``."""
    anchors: Int32
    """Candidate positions per anchor item, ``[items, C]``, padded with -1."""
    held_out: FeatureBatch
    """Test impressions, at most 20,000."""
    held_out_labels: Float32
    held_out_units: Int32
    """Who saw each of them: equal numbers are one user, or one visitor's session."""
    held_out_rows: Rows
    """Their row numbers in the log, ascending."""
    calibration: FeatureBatch
    """Impressions that are neither trained on nor held out for a measurement."""
    calibration_rows: Rows
    quality: Quality
    data: DataSource
    training: Training
    lineage: Lineage | None = None
    """None for a model trained from nothing."""
    candidates: CandidateFigures | None = None
    """How good `anchors` are; None where no likes were held out to measure on."""

    def module(self) -> RankingNetwork:
        """The network with its weights, in evaluation mode.

        Raises:
            InputError: the weights are not those of the architecture and schema.
        """
        try:
            return restore(self.architecture, self.schema, self.weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.directory / 'weights.npz'}: {reason}") from None


class _RunFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``run.json``."""

    format: int
    architecture: Architecture
    schema: FeatureSchema
    quality: Quality
    data: DataSource
    training: Training
    lineage: Lineage | None
    candidates: CandidateFigures | None = None


def check_out(out: Path, *, force: bool) -> None:
    """Refuse, before hours of training, a folder that the run cannot be saved to.

    Raises:
        InputError: it exists and may not be replaced, or its name cannot be a
            model's.
    """
    if not NAME.fullmatch(out.name):
        raise InputError(
            f"{out}: the folder's name is the model's; use letters, digits, '.', '_' and '-', "
            "at most 64, and start with a letter or digit"
        )
    if not out.exists():
        return
    if not (out / "run.json").is_file():
        raise InputError(f"{out}: is there and is not a run; choose another --out")
    if not force:
        raise InputError(f"{out}: there is a run already; choose another --out, or --force")


def save_run(run: TrainedRun, *, force: bool = False) -> None:
    """Write ``run.directory``, whole or not at all.

    Raises:
        InputError: it is there (without ``force``), is no run, or cannot be written.
    """
    check_out(run.directory, force=force)
    content = _RunFile(
        format=FORMAT,
        architecture=run.architecture,
        schema=run.schema,
        quality=run.quality,
        data=run.data,
        training=run.training,
        lineage=run.lineage,
        candidates=run.candidates,
    )
    with new_folder(run.directory, replace=force) as folder:
        (folder / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(content)))
        np.savez(folder / "weights.npz", allow_pickle=False, **run.weights)
        for name, table in (("items", run.items), ("users", run.users)):
            arrays = {"row_ids": np.array(table.ids, np.str_), **table.features.inputs()}
            np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays)
        np.savez(
            folder / "candidates.npz",
            allow_pickle=False,
            popularity=run.popularity,
            anchors=run.anchors,
        )
        arrays = {
            "labels": run.held_out_labels,
            "units": run.held_out_units,
            "rows": run.held_out_rows,
            **run.held_out.inputs(),
        }
        np.savez(folder / "held_out.npz", allow_pickle=False, **arrays)
        arrays = {"rows": run.calibration_rows, **run.calibration.inputs()}
        np.savez(folder / "calibration.npz", allow_pickle=False, **arrays)


def load_run(directory: Path) -> TrainedRun:
    """Read a run back.

    Raises:
        InputError: no run there, or a file is missing, damaged or does not
            fit the schema; names the file.
    """
    file = directory / "run.json"
    try:
        content = msgspec.json.decode(file.read_bytes(), type=_RunFile)
    except OSError:
        raise InputError(f"{directory}: there is no run here (no readable run.json)") from None
    except msgspec.MsgspecError as error:
        raise InputError(f"{file}: {error}") from None
    if content.format != FORMAT:
        raise InputError(f"{file}: format {content.format}, this version reads {FORMAT}")
    schema = content.schema
    candidates = _load(directory / "candidates.npz", ("popularity", "anchors"))
    held_out = _load(directory / "held_out.npz", ("labels", "units", "rows", *schema.inputs))
    calibration = _load(directory / "calibration.npz", ("rows", *schema.inputs))
    return TrainedRun(
        directory=directory,
        name=directory.resolve().name,
        architecture=content.architecture,
        schema=schema,
        weights=dict(_load(directory / "weights.npz", ())),
        items=_load_table(directory / "items.npz", schema.of("item")),
        users=_load_table(directory / "users.npz", schema.of("user")),
        popularity=candidates["popularity"],
        anchors=candidates["anchors"],
        held_out=FeatureBatch.of_inputs(held_out),
        held_out_labels=held_out["labels"],
        held_out_units=held_out["units"],
        held_out_rows=held_out["rows"],
        calibration=FeatureBatch.of_inputs(calibration),
        calibration_rows=calibration["rows"],
        quality=content.quality,
        data=content.data,
        training=content.training,
        lineage=content.lineage,
        candidates=content.candidates,
    )


def _load_table(file: Path, schema: FeatureSchema) -> Table:
    arrays = _load(file, ("row_ids", *schema.inputs))
    return Table(ids=tuple(arrays["row_ids"].tolist()), features=FeatureBatch.of_inputs(arrays))


def _load(file: Path, names: tuple[str, ...]) -> Arrays:
    try:
        # Opened here, because np.load leaves a damaged file open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{file}: is missing from the run") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: is damaged: {error}") from None
    missing = set(names) - set(arrays)
    if missing:
        raise InputError(f"{file}: holds no {', '.join(sorted(missing))}")
    return arrays
