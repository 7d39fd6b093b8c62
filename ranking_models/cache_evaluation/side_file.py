"""The evaluation of a bundle's cache modes, kept beside the bundle and never in it.

A bundle is immutable: its version is a digest of all that it holds. What is
measured later, on whatever data, is about it and not part of it.
"""

from pathlib import Path

import msgspec

from ranking_models.cache_evaluation.values import (
    FORMAT,
    CacheEvaluation,
    decode_evaluation,
    encode_evaluation,
)
from ranking_models.report_files import write_whole


def side_file(bundle: Path) -> Path:
    """``<version>.cache.json`` beside the bundle's folder."""
    path = bundle.resolve()
    return path.with_name(f"{path.name}.cache.json")


def write_beside(bundle: Path, evaluation: CacheEvaluation) -> Path:
    """Keep an evaluation in place of the one before it.

    Raises:
        InputError: it cannot be written.
    """
    file = side_file(bundle)
    write_whole(file, encode_evaluation(evaluation))
    return file


def read_beside(bundle: Path, model: str) -> CacheEvaluation | None:
    """The evaluation of a bundle; None if there is none, or what is there is of another model.

    Args:
        bundle: Its folder.
        model: ``name@version`` that the evaluation must be of.
    """
    try:
        evaluation = decode_evaluation(side_file(bundle).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
    return evaluation if (evaluation.format, evaluation.model) == (FORMAT, model) else None
