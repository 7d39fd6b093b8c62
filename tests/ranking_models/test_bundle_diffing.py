"""Two bundles are compared by what they hold."""

import msgspec
import numpy as np
import pytest

from ranking_models.bundle import Bundle, BundleContents, write_bundle
from ranking_models.bundle.diffing import BundleDiff, diff_bundles
from ranking_models.onnx_runtime import onnx_runtime_scorer
from service.cli import run
from tests.support.bundles import linear_graph, run_graph, tiny_contents, with_parts

CONTENTS = tiny_contents()


def compared(tmp_path, before: BundleContents, after: BundleContents) -> BundleDiff:
    one, other = (Bundle.open(write_bundle(tmp_path, c)) for c in (before, after))
    scorers = [onnx_runtime_scorer(bundle.graph("fp32")) for bundle in (one, other)]
    return diff_bundles(one, other, *scorers)


def test_a_bundle_does_not_differ_from_itself(tmp_path):
    found = compared(tmp_path, CONTENTS, CONTENTS)

    assert not any((found.schema, found.items, found.files))
    assert (found.architecture, found.precisions, found.quality) == (None, (), {})
    assert found.same_split
    assert found.golden.max_difference == 0
    assert found.golden.rows == CONTENTS.arrays.golden.rows


def test_another_model_differs_by_its_scores_on_the_shared_golden_rows(tmp_path):
    graph = linear_graph(CONTENTS.schema, seed=9)
    rows = CONTENTS.arrays.golden
    scores = run_graph(graph, rows)
    graphs = {"fp32": msgspec.structs.replace(CONTENTS.graphs["fp32"], onnx=graph, parity=1e-7)}
    other = msgspec.structs.replace(
        CONTENTS,
        graphs=graphs,
        arrays=msgspec.structs.replace(
            CONTENTS.arrays, golden=rows.take(slice(0, 10)), golden_scores=scores[:10]
        ),
        quality=msgspec.structs.replace(CONTENTS.quality, auc=0.75),
    )

    found = compared(tmp_path, CONTENTS, other)

    worst = np.abs(scores[:10].astype(np.float64) - CONTENTS.arrays.golden_scores[:10]).max()
    assert found.golden.max_difference == pytest.approx(worst, abs=1e-6)
    assert found.golden.rows >= 10
    assert found.quality == {"auc": (0.5, 0.75)}
    assert found.files.changed == ("golden.npz", "ranker.fp32.onnx")
    assert [pair.precision for pair in found.precisions] == ["fp32"]


def test_items_are_compared_by_id_wherever_they_stand(tmp_path):
    arrays = CONTENTS.arrays
    items = arrays.items.take(np.r_[0, 0:49])
    items.dense[3, 0] += 1  # is i2 now
    ids = np.array(["added", *arrays.item_ids[:49].tolist()])
    other = msgspec.structs.replace(
        CONTENTS, arrays=msgspec.structs.replace(arrays, item_ids=ids, items=items)
    )

    found = compared(tmp_path, CONTENTS, other)

    assert found.items.added == ("added",)
    assert found.items.removed == ("i49",)
    assert found.items.changed == ("i2",)


def test_features_precisions_and_files_that_one_side_lacks_are_named(tmp_path):
    other = with_parts(
        msgspec.structs.replace(
            CONTENTS, graphs={**CONTENTS.graphs, "fp16": CONTENTS.graphs["fp32"]}
        )
    )
    found = compared(tmp_path, CONTENTS, other)

    (pair,) = found.precisions
    assert (pair.precision, pair.before) == ("fp16", None)
    assert "split/row.onnx" in found.files.added
    assert "segments/scores.npy" in found.files.added


def test_scores_of_other_features_are_not_compared(tmp_path):
    found = compared(tmp_path, CONTENTS, tiny_contents(items=49))

    assert found.schema.changed == ("item_id",)
    assert found.golden is None


def test_the_command_prints_the_differences_and_json(tmp_path, capsys):
    before = write_bundle(tmp_path, CONTENTS)
    after = write_bundle(tmp_path, tiny_contents(items=49))

    assert run(["bundle", "diff", str(before), str(after)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"tiny@{before.name} -> tiny@{after.name}\n")
    assert "items         1 removed: i49\n" in text
    assert "scores        not compared" in text

    assert (
        run(
            [
                "bundle",
                "diff",
                f"tiny@{before.name}",
                str(after),
                "--json",
                "--bundles",
                str(tmp_path),
            ]
        )
        == 0
    )
    assert msgspec.json.decode(capsys.readouterr().out, type=BundleDiff).items.removed == ("i49",)
