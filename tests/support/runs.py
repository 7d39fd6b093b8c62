"""A run as ``podium train`` leaves it, with random weights and the features of the tiny bundle."""

from pathlib import Path

import numpy as np
import torch

from ranking_models.architectures import Architecture, DCNv2, DeepFM
from ranking_models.fitting import FitOptions
from ranking_models.nn import build
from ranking_models.run import Table, TrainedRun, Training
from tests.support.bundles import tiny_contents

DCN = DCNv2(embedding_dim=4, cross_layers=2, hidden=(16, 8), dropout=0.2)
DEEP_FM = DeepFM(embedding_dim=4, hidden=(16, 8), dropout=0.2)


def tiny_run(directory: Path, *, architecture: Architecture = DCN, seed: int = 0) -> TrainedRun:
    """An untrained run whose scores still spread; it is not saved."""
    contents = tiny_contents(seed=seed)
    arrays = contents.arrays
    torch.manual_seed(seed)
    network = build(architecture, contents.schema)
    return TrainedRun(
        directory=directory,
        name=directory.name,
        architecture=architecture,
        schema=contents.schema,
        weights={
            name: np.random.default_rng(seed).normal(0, 0.4, tuple(value.shape)).astype(np.float32)
            for name, value in network.state_dict().items()
        },
        items=Table(ids=tuple(arrays.item_ids.tolist()), features=arrays.items),
        users=Table(ids=tuple(arrays.user_ids.tolist()), features=arrays.users),
        popularity=arrays.popularity,
        anchors=arrays.candidates,
        held_out=arrays.golden,
        held_out_labels=(np.arange(arrays.golden.rows) % 3 == 0).astype(np.float32),
        held_out_units=np.arange(arrays.golden.rows, dtype=np.int32),
        held_out_rows=np.arange(arrays.golden.rows),
        calibration=arrays.golden,
        calibration_rows=np.arange(arrays.golden.rows) + arrays.golden.rows,
        quality=contents.quality,
        data=contents.data,
        training=Training(
            options=FitOptions(seed=seed),
            split="user",
            epochs=0,
            validation_log_loss=0.69,
            tools={},
        ),
    )
