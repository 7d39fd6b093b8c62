"""``podium export`` and ``podium bundle``: what a person sees, and the exit code a script sees."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.bundle import Bundle, write_bundle
from ranking_models.gates import thresholds_for
from ranking_models.manifest import CandidateFigures, Gate, Lineage
from ranking_models.run import save_run
from service.cli import run
from tests.support.bundles import overwrite, tiny_contents, with_parts, write_tiny_bundle
from tests.support.gated import sound_figures
from tests.support.runs import tiny_run

SOUND = Gate(
    reference="fp32",
    evidence="100 rows",
    figures=sound_figures(),
    thresholds=thresholds_for("int8"),
    failures=(),
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundles")


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on standard error of a command that must fail."""
    assert run(list(arguments)) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("podium: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_a_run_becomes_a_bundle_that_verifies(tmp_path, capsys, networks_exported_once):
    save_run(tiny_run(tmp_path / "runs" / "toys"))
    out = str(tmp_path / "bundles")

    assert run(["export", "--run", str(tmp_path / "runs/toys"), "--out", out]) == 0

    (written,) = (tmp_path / "bundles/toys").iterdir()
    assert f"wrote {written}" in capsys.readouterr().out
    assert run(["bundle", "verify", "toys", "--bundles", out]) == 0
    assert "256 golden rows" in capsys.readouterr().out


def test_the_model_can_be_given_another_name(tmp_path, networks_exported_once):
    save_run(tiny_run(tmp_path / "toys"))
    out = tmp_path / "bundles"

    assert run(["export", "--run", str(tmp_path / "toys"), "--out", str(out), "--name", "x"]) == 0
    assert [model.name for model in out.iterdir()] == ["x"]


def test_exporting_what_is_no_run_is_one_line(tmp_path, capsys):
    assert str(tmp_path) in failed(capsys, "export", "--run", str(tmp_path))


@pytest.mark.parametrize("reference", ["tiny", "tiny@{version}", "{path}", "{path}/"])
def test_a_bundle_is_named_by_reference_or_path(bundle, capsys, reference):
    named = reference.format(version=bundle.name, path=bundle)

    assert run(["bundle", "verify", named, "--bundles", str(bundle.parents[1])]) == 0
    printed = capsys.readouterr().out
    assert "fp32: 32 golden rows" in printed
    assert f"tiny@{bundle.name} is sound: 12 files" in printed


def test_a_bundle_in_the_working_folder_is_named_by_its_folder(bundle, monkeypatch):
    monkeypatch.chdir(bundle.parent)

    assert run(["bundle", "verify", bundle.name]) == 0


def test_inspect_tells_what_a_person_wants_to_know(bundle, capsys):
    assert run(["bundle", "inspect", str(bundle)]) == 0

    printed = " ".join(capsys.readouterr().out.split())
    for fact in (
        f"tiny@{bundle.name}",
        "created 2026-11-01T00:00:00+00:00",
        "dcn-v2",
        "AUC 0.5000, log loss 0.6900, gAUC 0.5000, NDCG@10 0.5000",
        "100 rows of 20 users: none: random weights",
        "licence Apache-2.0",
        "price item numeric log, mean 3, scale 1.5, clip 8",
        "tags item multi 4 values, up to 3 at once",
        "device context categorical 3 values, 'web' if missing",
        "fp32 ranker.fp32.onnx parity 0 tolerance 1e-05",
        "users/ids.npy 288 bytes",
    ):
        assert fact in printed, fact


def test_inspect_tells_of_the_parts_that_a_bundle_may_have(tmp_path, capsys):
    pages = CandidateFigures(size=30, pairs=70, recall=0.5, popularity_recall=0.25, shares={})
    lineage = Lineage(method="pruned", parent="large", options={"epochs": 2})
    contents = replace(with_parts(tiny_contents()), candidates=pages, lineage=lineage)
    path = write_bundle(tmp_path, contents)

    assert run(["bundle", "inspect", str(path)]) == 0

    printed = " ".join(capsys.readouterr().out.split())
    for fact in (
        "made from large, pruned (epochs 2)",
        "exact split 1 numbers per user, 1 per item; taken apart: linear",
        "segments 5, version",
        "item pages 30 candidates; recall 0.500 on 70 held-out likes, of popularity alone 0.250",
    ):
        assert fact in printed, fact


def test_inspect_prints_the_manifest_for_programs(bundle, capsysbinary):
    assert run(["bundle", "inspect", str(bundle), "--json"]) == 0

    assert capsysbinary.readouterr().out == (bundle / "manifest.json").read_bytes()


def test_a_changed_byte_fails_verification_by_name(bundle, capsys):
    graph = bundle / "ranker.fp32.onnx"
    content = bytearray(graph.read_bytes())
    content[100] ^= 1
    overwrite(graph, bytes(content))

    line = failed(capsys, "bundle", "verify", str(bundle))
    assert f"{graph}: was changed or damaged" in line
    assert run(["bundle", "inspect", str(bundle)]) == 0, "its description can still be read"


def test_a_graph_that_scores_differently_fails_verification(tmp_path, capsys):
    """Every digest is right; only the golden rows tell."""
    contents = tiny_contents()
    scores = contents.arrays.golden_scores.copy()
    scores[5] = np.float32(1) - scores[5]
    arrays = msgspec.structs.replace(contents.arrays, golden_scores=scores)
    path = write_bundle(tmp_path, msgspec.structs.replace(contents, arrays=arrays))
    Bundle.open(path)

    line = failed(capsys, "bundle", "verify", str(path))
    assert "ranker.fp32.onnx: row 5 of 32 scores" in line


def test_a_graph_that_is_no_graph_fails_verification(tmp_path, capsys):
    contents = tiny_contents()
    fp32 = msgspec.structs.replace(contents.graphs["fp32"], onnx=b"not a graph")
    path = write_bundle(tmp_path, msgspec.structs.replace(contents, graphs={"fp32": fp32}))

    assert "ONNX Runtime does not load it" in failed(capsys, "bundle", "verify", str(path))


def test_a_bundle_that_is_not_there_says_what_is(bundle, capsys):
    root = str(bundle.parents[1])

    assert f"there are: tiny@{bundle.name}" in failed(
        capsys, "bundle", "inspect", "toys", "--bundles", root
    )
    assert "not a complete bundle" in failed(capsys, "bundle", "verify", str(bundle.parent))


def gated(tmp_path: Path, gate: Gate) -> Path:
    """A bundle whose fp16 graph has this gate, and which was itself pruned and passed."""
    contents = tiny_contents()
    graphs = contents.graphs | {"fp16": msgspec.structs.replace(contents.graphs["fp32"], gate=gate)}
    pruned = msgspec.structs.replace(SOUND, reference="big@0a1b2c3d")
    lineage = Lineage(method="pruned", parent="big@0a1b2c3d", options={}, gate=pruned)
    return write_bundle(tmp_path, msgspec.structs.replace(contents, graphs=graphs, lineage=lineage))


def test_inspect_and_verify_tell_the_verdict_of_every_gate(tmp_path, capsys):
    forced = msgspec.structs.replace(
        SOUND,
        figures=msgspec.structs.replace(SOUND.figures, kendall_tau=0.5),
        failures=("tau is 0.5",),
        forced=True,
    )
    path = gated(tmp_path, forced)

    assert run(["bundle", "inspect", str(path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for fact in (
        "Gates pruned passed against big@0a1b2c3d AUC +0.000% (+0.000% to +0.000%)",
        "fp16 FAILED, forced against fp32 AUC +0.000%",
        "top 10 1.0000 (worst 1.00), tau 0.5000, score difference at most 0 failed: tau is 0.5",
        "on 100 rows Files",
    ):
        assert fact in printed, fact

    assert run(["bundle", "verify", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "pruned: gate passed against big@0a1b2c3d: AUC" in printed
    assert "fp16: gate FAILED, forced against fp32: AUC" in printed


def test_a_verdict_that_its_own_figures_deny_fails_verification(tmp_path, capsys):
    figures = msgspec.structs.replace(SOUND.figures, kendall_tau=0.5)
    path = gated(tmp_path, msgspec.structs.replace(SOUND, figures=figures))

    line = failed(capsys, "bundle", "verify", str(path))
    assert f"{path}: fp16: its gate says passed, its figures say Kendall's tau" in line


def test_a_bundle_without_gates_has_no_section_for_them(bundle, capsys):
    assert run(["bundle", "inspect", str(bundle)]) == 0

    assert "Gates" not in capsys.readouterr().out
