"""Errors as they are told to readers without a key: files are named, folders are not."""

import pytest

from service.no_folders import without_folders


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "/srv/models/market/1a/ranker.fp16.onnx: tensorrt cannot load it",
            "ranker.fp16.onnx: tensorrt cannot load it",
        ),
        ("Load model from '/home/a b/my models/k.onnx' failed", "Load model from 'k.onnx' failed"),
        ("failed:/build/src/session.cc:12", "failed:session.cc:12"),
        ("cannot read /a/b and write /c/d/e", "cannot read b and write e"),
        ("no libcuda.so (/opt/cuda/lib/libcuda.so.1)", "no libcuda.so (libcuda.so.1)"),
        ("Timeout reading from /run/podium/events.sock", "Timeout reading from events.sock"),
    ],
)
def test_a_path_is_cut_to_the_name_of_its_file(error, told):
    assert without_folders(error) == told


@pytest.mark.parametrize(
    "error",
    [
        "ask POST /v1/models/ranker/load",
        "http://triton:8000/v2/models/ranker is not ready",
        "redis://cache:6379/0 does not answer",
        "3/4 of the rows, and/or none",
        "give float32[8, 4] / row",
    ],
)
def test_what_is_no_path_of_this_machine_stays(error):
    assert without_folders(error) == error
