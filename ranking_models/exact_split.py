"""The exact split of a ranker, used: three graphs as one function of rows. Without torch.

What the graphs hold is in `SplitGraphs`; how they are made in
``ranking_models.export.exact_split``.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ranking_models.errors import InputError
from ranking_models.onnx_runtime import open_session
from ranking_models.parity import Scorer
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32, Int32, Source

SPLIT_TOLERANCE = 1e-6
"""Largest difference between a score of the three graphs and of the whole one."""

USER_SIDE: tuple[Source, ...] = ("user", "context")
"""What is the same for all candidates of a request."""
ITEM_SIDE: tuple[Source, ...] = ("item",)


def side_schema(schema: FeatureSchema, side: tuple[Source, ...]) -> FeatureSchema:
    """The features of one side, in the order of the whole schema: the half's inputs."""
    return schema.of(*side)


def side_columns(
    schema: FeatureSchema, rows: FeatureBatch, side: tuple[Source, ...]
) -> FeatureBatch:
    """The columns of one side out of rows of all features."""
    dense = [i for i, spec in enumerate(schema.dense) if spec.source in side]
    ids = [i for i, spec in enumerate(schema.ids) if spec.source in side]
    return FeatureBatch(
        dense=np.ascontiguousarray(rows.dense[:, dense]),
        ids=np.ascontiguousarray(rows.ids[:, ids]),
        multi={s.name: rows.multi[s.name] for s in schema.multi if s.source in side},
    )


def split_scorer(
    schema: FeatureSchema, *, user: Path | bytes, item: Path | bytes, row: Path | bytes
) -> Scorer:
    """The three graphs as a plain function of rows, as a service would use them.

    The user half runs once for every distinct user and context among the rows.

    Args:
        schema: All features of the ranker.
        user: ``split/user.onnx``, from a file or serialised.
        item: ``split/item.onnx``.
        row: ``split/row.onnx``.

    Raises:
        InputError: ONNX Runtime refuses a graph, on loading or on a call.
    """
    user_half, item_half, row_half = _Half(user, "user"), _Half(item, "item"), _Half(row, "row")
    sums = row_half.sums

    def score(rows: FeatureBatch) -> Float32:
        users, items = (side_columns(schema, rows, side) for side in (USER_SIDE, ITEM_SIDE))
        first, user_of_row = _distinct(users)
        of_user = user_half("user", users.take(first).inputs())
        of_item = item_half("item", items.inputs())
        if sums is None:
            return row_half("score", {"user": of_user, "user_of_row": user_of_row, "item": of_item})
        total = np.ascontiguousarray(of_item[:, :sums])
        product = join_products(
            total, of_item[:, sums:], of_user[:, :sums], of_user[:, sums:], user_of_row
        )
        return row_half("score", {"sums": total, "product": product})

    return score


def join_products(
    sums: Float32,
    factors: Float32,
    user_sums: Float32,
    user_factors: Float32,
    user_of_row: Int32,
) -> Float32:
    """Join the halves of a ranker that meet in sums and in one inner product.

    Rows of one user that stand together cost one step for all of them.

    Args:
        sums: The items' part, ``[rows, S]``; the users' is added to it in place.
        factors: The items', ``[rows, P]``.
        user_sums: ``[users, S]``.
        user_factors: ``[users, P]``.
        user_of_row: int32 ``[rows]``.

    Returns:
        The inner product of each row, ``[rows]``.
    """
    product = np.empty(len(sums), np.float32)
    starts = [0, *(np.flatnonzero(np.diff(user_of_row)) + 1).tolist()]
    for start, stop in zip(starts, [*starts[1:], len(sums)], strict=True):
        user, part = user_of_row[start], sums[start:stop]
        part += user_sums[user]
        np.vecdot(factors[start:stop], user_factors[user], out=product[start:stop])
    return product


class _Half:
    """One of the three graphs as a function of arrays by name."""

    def __init__(self, graph: Path | bytes, name: str) -> None:
        self._what = f"split/{name}.onnx"
        try:
            self._session = open_session(graph)
        except Exception as error:  # the runtime has a class of its own for every status
            raise self._failed("does not load it", error) from error
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        self._inputs = [*shapes]
        self.sums: int | None = shapes["sums"][1] if "sums" in shapes else None
        """Of the row half: how many sums it takes, where it takes those and a product."""

    def __call__(self, output: str, arrays: dict[str, npt.NDArray[Any]]) -> Float32:
        try:
            (out,) = self._session.run([output], {name: arrays[name] for name in self._inputs})
        except Exception as error:  # also a graph with an input of another name
            raise self._failed("does not run it", error) from error
        return np.asarray(out)

    def _failed(self, what: str, error: Exception) -> InputError:
        text = " ".join(str(error).split())
        return InputError(f"{self._what}: ONNX Runtime {what}: {text}; export the bundle again")


def _distinct(rows: FeatureBatch) -> tuple[npt.NDArray[np.intp], Int32]:
    """Positions of the first of each kind of row, and every row's kind."""
    columns = [a.reshape(rows.rows, -1).view(np.int32) for a in rows.inputs().values()]
    _, first, kind = np.unique(
        np.concatenate(columns, axis=1), axis=0, return_index=True, return_inverse=True
    )
    return first, kind.reshape(-1).astype(np.int32)
