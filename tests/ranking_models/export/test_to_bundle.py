"""From a run to a bundle whose graph computes what PyTorch computed."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranking_models.bundle import Bundle
from ranking_models.errors import BundleError
from ranking_models.export.to_bundle import MAX_BATCH_ROWS, export_run, exported, torch_scorer
from ranking_models.golden import golden_rows
from ranking_models.nn import build
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.parity import ParityFailed
from ranking_models.run import TrainedRun
from tests.support.runs import DCN, DEEP_FM, tiny_run

TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return tiny_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def bundle(run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("bundles")
    return Bundle.open(export_run(run, root, name="tiny", created=TODAY))


def test_the_bundle_is_the_run(run, bundle):
    assert bundle.item_ids.tolist() == list(run.items.ids)
    assert bundle.user_ids.tolist() == list(run.users.ids)
    np.testing.assert_array_equal(bundle.items.dense, run.items.features.dense)
    np.testing.assert_array_equal(bundle.users.ids, run.users.features.ids)
    np.testing.assert_array_equal(bundle.candidates, run.anchors)
    np.testing.assert_array_equal(bundle.popularity, run.popularity)
    manifest = bundle.manifest
    assert (manifest.schema, manifest.quality, manifest.data) == (run.schema, run.quality, run.data)
    assert (manifest.name, manifest.created) == ("tiny", TODAY)
    assert set(manifest.tools) == {"numpy", "onnx", "onnxruntime", "torch"}


def test_the_graph_scores_as_the_network_on_all_held_out_rows(run, bundle):
    expected = torch_scorer(run.module(), run.schema)(run.held_out)

    scores = onnx_runtime_scorer(bundle.graph("fp32"))(run.held_out)

    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05, "a constant would be easy to agree on"


def test_golden_rows_carry_the_networks_scores(run, bundle):
    rows, scores = bundle.golden

    assert rows.rows == 256
    np.testing.assert_array_equal(scores, torch_scorer(run.module(), run.schema)(rows))
    fp32 = bundle.manifest.precisions["fp32"]
    assert 0 <= fp32.parity <= fp32.tolerance == 1e-5


def test_the_stated_batch_limit_was_really_run(bundle):
    rows, _ = bundle.golden
    assert bundle.manifest.max_batch_rows == MAX_BATCH_ROWS >= 1000

    many = rows.take(np.arange(MAX_BATCH_ROWS) % rows.rows)

    assert onnx_runtime_scorer(bundle.graph("fp32"))(many).shape == (MAX_BATCH_ROWS,)


def test_the_second_architecture_exports_too(tmp_path):
    run = tiny_run(tmp_path / "fm", architecture=DEEP_FM)

    Bundle.open(export_run(run, tmp_path, name="fm", created=TODAY))


class Drifting(nn.Module):
    """A network that its own export does not match, by a little."""

    def __init__(self, network: nn.Module, by: float) -> None:
        super().__init__()
        self.network, self.by = network, by

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        scores: Tensor = self.network(dense, ids, *multi)
        return scores + self.by if torch.compiler.is_exporting() else scores


@pytest.mark.parametrize(("by", "passes"), [(5e-6, True), (2e-5, False)])
def test_a_planted_difference_fails_the_export(run, by, passes):
    module = Drifting(run.module(), by).eval()
    golden = golden_rows(run.schema, run.held_out)
    reference = torch_scorer(module, run.schema)(golden)

    if passes:
        graph = exported(module, run.schema, golden, reference)
        assert graph.parity == pytest.approx(by, abs=1e-6)
    else:
        with pytest.raises(ParityFailed, match="against PyTorch"):
            exported(module, run.schema, golden, reference)


def test_a_difference_on_unknown_values_alone_fails_the_export(run):
    """Real held-out rows would never show it; the golden edge rows do."""

    class DriftingOnUnknown(Drifting):
        def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
            scores: Tensor = self.network(dense, ids, *multi)
            unknown = (ids == 0).all(dim=1)
            return scores + unknown * self.by if torch.compiler.is_exporting() else scores

    module = DriftingOnUnknown(run.module(), 1e-3).eval()
    golden = golden_rows(run.schema, run.held_out)

    with pytest.raises(ParityFailed):
        exported(module, run.schema, golden, torch_scorer(module, run.schema)(golden))


def test_a_failed_export_writes_nothing(run, tmp_path):
    weights = {name: np.full_like(value, np.nan) for name, value in run.weights.items()}
    broken = msgspec.structs.replace(run, weights=weights)

    with pytest.raises(ParityFailed, match="nan"):
        export_run(broken, tmp_path / "out", name="tiny", created=TODAY)
    assert not (tmp_path / "out").exists()


def test_ids_that_cannot_be_kept_are_named(run, tmp_path):
    ids = ("x" * 300, *run.items.ids[1:])
    items = msgspec.structs.replace(run.items, ids=ids)

    with pytest.raises(BundleError, match="the items: the id 'xxx"):
        export_run(msgspec.structs.replace(run, items=items), tmp_path, name="a", created=TODAY)


def test_dropout_is_off_even_if_the_caller_left_it_on(run, tmp_path):
    module = build(DCN, run.schema).train()
    golden = golden_rows(run.schema, run.held_out)
    reference = torch_scorer(module.eval(), run.schema)(golden)
    module.train()

    exported(module, run.schema, golden, reference)


def test_what_serving_imports_asks_for_no_torch():
    """The serving image has none."""
    code = (
        "import sys; import ranking_models.bundle, ranking_models.candidates, "
        "ranking_models.golden, ranking_models.parity, "
        "ranking_models.onnx_runtime; "
        "sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
