"""Item pages are made from the rows that were seen, and measured on rows that were not."""

import msgspec
import numpy as np
import pytest

from ranking_models.data import encode, fit_schema
from ranking_models.item_pages import ItemPages, item_pages
from ranking_models.joining import Tables
from ranking_models.logs import Logs, log_files_in, read_logs
from ranking_models.schema import FeatureBatch, Float32

SEEN, HELD_OUT = np.arange(300), np.arange(300, 400)

SCHEMA = """
name = "shop"
licence = "CC0"
features = [
  {name = "user_id", source = "user", kind = "categorical"},
  {name = "item_id", source = "item", kind = "categorical"},
]
[interactions]
user = "user_id"
item = "item_id"
timestamp = "at"
label = "clicked"
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    folder = tmp_path_factory.mktemp("log")
    random = np.random.default_rng(0)
    lines = ["user_id,item_id,at,clicked"]
    for second in range(400):
        user, item = random.integers(20), random.integers(60)
        lines.append(f"u{user},i{item},{second},{int(user % 2 == item % 2)}")
    (folder / "interactions.csv").write_text("\n".join(lines) + "\n")
    (folder / "schema.toml").write_text(SCHEMA)
    return read_logs(log_files_in(folder))


def pages(logs: Logs, held_out=HELD_OUT) -> ItemPages:
    data = encode(logs, fit_schema(logs, SEEN))
    tables = Tables(
        schema=data.schema,
        users=data.tables["user"].take(slice(0, len(logs.users.ids))),
        items=data.tables["item"].take(slice(0, len(logs.items.ids))),
    )

    def score(batch: FeatureBatch) -> Float32:
        return (1 / (1 + np.exp(-np.sin(batch.ids.prod(axis=1))))).astype(np.float32)

    return item_pages(logs, score, tables, seen=SEEN, held_out=held_out)


def test_held_out_likes_change_the_figures_and_nothing_else(logs):
    label = logs.label.copy()
    label[HELD_OUT] = 1 - label[HELD_OUT]
    other = msgspec.structs.replace(logs, label=label)

    one, two = pages(logs), pages(other)

    np.testing.assert_array_equal(one.anchors, two.anchors)
    np.testing.assert_array_equal(one.popularity, two.popularity)
    assert one.figures != two.figures


def test_the_pairs_are_the_held_out_likes_beside_the_newest_seen_like(logs):
    found = pages(logs).figures

    pairs, hits = 0, 0
    candidates = pages(logs).anchors
    for row in HELD_OUT[logs.label[HELD_OUT] > 0]:
        liked = [r for r in SEEN if logs.label[r] and logs.unit[r] == logs.unit[row]]
        if liked and logs.item[liked[-1]] != logs.item[row]:
            pairs += 1
            hits += logs.item[row] in candidates[logs.item[liked[-1]]]
    assert found.pairs == pairs
    assert found.recall == pytest.approx(hits / pairs)
    assert sum(found.shares.values()) == pytest.approx(1)


def test_nothing_held_out_is_nothing_measured(logs):
    assert pages(logs, held_out=HELD_OUT[:0]).figures is None
