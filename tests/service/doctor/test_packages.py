"""Packages by extra, and exactly one ONNX Runtime."""

import sys
from types import SimpleNamespace

import pytest

from service.doctor.packages import by_extra, of_extra, onnx_runtime, package_findings


def test_requirements_are_sorted_by_the_extra_that_wants_them():
    found = by_extra(
        [
            "msgspec>=0.22",
            "litestar<3,>=2.25",
            'onnxruntime>=1.31; extra == "cpu"',
            "tensorrt-rtx==1.7.1.116; (sys_platform == 'linux') and extra == 'dev'",
        ]
    )

    assert found == {
        "": ["msgspec", "litestar"],
        "cpu": ["onnxruntime"],
        "dev": ["tensorrt-rtx"],
    }


@pytest.mark.parametrize(
    ("extra", "versions", "state", "found"),
    [
        ("", {"msgspec": "1", "numpy": "2"}, "ok", "all 2 are there"),
        ("", {"msgspec": "1", "numpy": None}, "problem", "missing: numpy"),
        ("cpu", {"onnxruntime": "1.31"}, "ok", "onnxruntime 1.31"),
        ("gpu", {"a": "1", "b": None}, "note", "a 1; not installed: b"),
        ("gpu", {"a": None, "b": None}, "note", "not installed: a, b"),
    ],
)
def test_an_extra_may_be_left_out_and_the_rest_may_not(extra, versions, state, found):
    finding = of_extra(extra, versions)

    assert (finding.state, finding.found) == (state, found)
    assert bool(finding.advice) == (state != "ok")


def test_two_onnx_runtimes_are_a_problem():
    (found,) = onnx_runtime({"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"})

    assert found.state == "problem"
    assert "overwrite each other" in found.found
    assert found.advice == "uninstall both, then install podium[cpu] or podium[gpu]"


def test_none_is_a_problem():
    (found,) = onnx_runtime({"onnxruntime": None, "onnxruntime-gpu": None})

    assert (found.state, found.advice) == ("problem", "install podium[cpu] or podium[gpu]")


def test_what_is_left_when_one_of_two_was_uninstalled_is_a_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())

    (found,) = onnx_runtime({"onnxruntime": "1.31.1", "onnxruntime-gpu": None})

    assert found.state == "problem"
    assert "onnxruntime 1.31.1 is broken" in found.found


def test_this_environment_is_whole():
    findings = list(package_findings())

    assert {one.subject: one.state for one in findings}["packages"] == "ok"
    assert "CPUExecutionProvider" in findings[-1].found
    assert not any("[dev]" in one.subject for one in findings)
