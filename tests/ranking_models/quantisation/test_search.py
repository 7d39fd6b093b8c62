"""Quantising is a search by effect: good graphs pass the gate, planted faults do not."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.errors import InputError
from ranking_models.export.half_graph import half_of_graph
from ranking_models.gates import judge, measure, thresholds_for
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.quantisation import calibration_of_run, quantise
from ranking_models.quantisation.rows import MAX_CALIBRATION_ROWS
from ranking_models.schema import FeatureBatch
from tests.support.bundles import tiny_contents
from tests.support.gated import SCHEMA, Weights, evidence, random_rows, random_weights, ranker
from tests.support.rtx import needs_rtx, rtx_builder
from tests.support.runs import tiny_run

Target = Literal["cpu", "trt"]

WEIGHTS = random_weights()
FP32 = ranker(WEIGHTS)
HALF = half_of_graph(FP32, SCHEMA)
EVIDENCE = evidence(WEIGHTS)
CALIBRATION = random_rows(512, seed=11)


def failures(reference: bytes, candidate: bytes) -> tuple[str, ...]:
    scorers = onnx_runtime_scorer(reference), onnx_runtime_scorer(candidate)
    return judge(measure(*scorers, EVIDENCE, max_activation=0.0), thresholds_for("int8"))


@pytest.fixture(scope="module")
def made() -> dict[Target, bytes]:
    return {
        target: quantise(FP32, HALF, SCHEMA, CALIBRATION, target=target).onnx
        for target in ("cpu", "trt")
    }


@pytest.mark.parametrize("target", ["cpu", "trt"])
def test_a_sound_model_passes_its_gate_in_8_bits(made: dict[Target, bytes], target: Target) -> None:
    assert failures(FP32, made[target]) == ()


def test_the_manifest_learns_how_it_was_made_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    told: list[tuple[int, int]] = []
    cpu = quantise(
        FP32, None, SCHEMA, CALIBRATION, target="cpu", progress=lambda *at: told.append(at)
    ).quantisation

    assert (cpu.activations, cpu.kept_precision, cpu.calibration_rows) == ("u8", "fp32", 512)
    assert [layer.layer for layer in cpu.layers] == ["first", "second", "third", "head"]
    assert [layer.kept for layer in cpu.layers] == [False, False, False, True]
    assert all(layer.mean_difference > 0 for layer in cpu.layers)
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    assert capfd.readouterr() == ("", "")


def test_the_form_for_tensorrt_says_so() -> None:
    trt = quantise(FP32, HALF, SCHEMA, CALIBRATION, target="trt").quantisation

    assert (trt.activations, trt.kept_precision) == ("s8", "fp16")


def test_the_same_rows_give_the_same_bytes(made: dict[Target, bytes]) -> None:
    assert quantise(FP32, HALF, SCHEMA, CALIBRATION, target="cpu").onnx == made["cpu"]


@pytest.mark.parametrize("target", ["cpu", "trt"])
def test_a_layer_that_8_bits_would_ruin_is_kept(target: Target) -> None:
    """One of its inputs is 2000 times the others, and its weights make up for that."""
    weights = _with_a_loud_input(random_weights())
    fp32 = ranker(weights)

    result = quantise(fp32, half_of_graph(fp32, SCHEMA), SCHEMA, CALIBRATION, target=target)

    kept = {layer.layer: layer.kept for layer in result.quantisation.layers}
    assert kept["second"]
    assert not kept["first"]
    differences = {layer.layer: layer.mean_difference for layer in result.quantisation.layers}
    assert max(differences, key=differences.__getitem__) == "second"
    assert failures(fp32, result.onnx) == ()


@pytest.mark.parametrize("target", ["cpu", "trt"])
def test_a_bad_calibration_set_is_caught_by_the_gate(target: Target) -> None:
    """Rows of nobody and nothing, at a hundredth of the real numbers: far too narrow ranges."""
    bad = FeatureBatch(
        dense=CALIBRATION.dense * np.float32(0.01),
        ids=np.zeros_like(CALIBRATION.ids),
        multi={name: np.zeros_like(values) for name, values in CALIBRATION.multi.items()},
    )

    graph = quantise(FP32, HALF, SCHEMA, bad, target=target).onnx

    assert any("top-10 overlap" in failure for failure in failures(FP32, graph))


def test_too_few_rows_are_refused_with_their_number() -> None:
    few = CALIBRATION.take(slice(0, 255))

    with pytest.raises(InputError, match="at least 256 calibration rows, there are 255; "):
        quantise(FP32, None, SCHEMA, few, target="cpu")


def test_more_rows_than_help_are_thinned_out() -> None:
    many = random_rows(MAX_CALIBRATION_ROWS + 904, seed=2)

    quantisation = quantise(FP32, None, SCHEMA, many, target="cpu").quantisation

    assert quantisation.calibration_rows == MAX_CALIBRATION_ROWS


def test_tensorrt_needs_the_fp16_graph() -> None:
    with pytest.raises(InputError, match="starts from the fp16 graph"):
        quantise(FP32, None, SCHEMA, CALIBRATION, target="trt")


def test_a_model_without_matrix_products_has_nothing_to_quantise() -> None:
    contents = tiny_contents()
    rows = contents.arrays.golden.take(np.arange(256) % 32)

    with pytest.raises(InputError, match="int8 has nothing to make faster"):
        quantise(contents.graphs["fp32"].onnx, None, contents.schema, rows, target="cpu")


def test_calibration_rows_that_are_held_out_too_are_refused(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    assert calibration_of_run(run) is run.calibration

    shared = run.calibration_rows.copy()
    shared[:3] = run.held_out_rows[5:8]
    with pytest.raises(InputError, match=r"3 of 32 calibration rows .* row 5 of the log"):
        calibration_of_run(replace(run, calibration_rows=shared))


@needs_rtx
def test_nvidias_own_parser_and_optimiser_build_the_graph_for_tensorrt(
    made: dict[Target, bytes],
) -> None:
    with rtx_builder() as rtx:
        for target in ((7, 5), (8, 9)):
            assert rtx.build(made["trt"], SCHEMA, target).plan


def _with_a_loud_input(weights: Weights) -> Weights:
    weights["first"][:, 0] *= 2000
    weights["second"][0] /= 2000
    return weights
