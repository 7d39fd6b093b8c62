"""A bundle of a small simulated marketplace, with segments, made without training."""

from pathlib import Path

import numpy as np
from msgspec.structs import replace

from ranking_models.bundle import Bundle
from ranking_models.bundle.rewriting import contents_of
from ranking_models.bundle.writing import write_bundle
from ranking_models.log_figures import data_source
from ranking_models.logs import Logs, log_files_in, read_logs
from ranking_models.marketplace import Marketplace, MarketplaceSpec
from ranking_models.marketplace.files import write_files
from ranking_models.marketplace.spec import LOG_SEED
from ranking_models.split import SplitName, split_logs
from tests.support.evaluations import grouped, write_bundle_for

SPEC = MarketplaceSpec(items=150, users=40)
SESSIONS = 250


def simulated_log(directory: Path, spec: MarketplaceSpec = SPEC) -> Logs:
    """As ``podium simulate --out`` writes it."""
    marketplace = Marketplace.generate(spec)
    log = marketplace.log(sessions=SESSIONS, seed=LOG_SEED)
    write_files(marketplace.population, log, directory)
    return read_logs(log_files_in(directory))


def simulated_bundle(root: Path, logs: Logs, *, split: SplitName = "global", **changed) -> Path:
    """A model with random weights that says it was trained on the log.

    Args:
        root: Of all bundles.
        logs: What its manifest tells of.
        split: What it says was held out.
        changed: Other contents.
    """
    opened = Bundle.open(write_bundle_for(root.with_name("unsaid"), logs))
    parts = split_logs(logs, split)
    segments = grouped(opened, count=4)
    quality = replace(
        opened.manifest.quality,
        split=parts.description,
        rows=len(parts.test),
        users=len(np.unique(logs.unit[parts.test])),
    )
    contents = replace(
        contents_of(opened),
        name="market",
        data=data_source(logs),
        quality=quality,
        segments=segments,
    )
    return write_bundle(root, replace(contents, **changed))
