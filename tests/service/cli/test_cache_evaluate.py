"""``podium cache evaluate``: what people see, what is kept, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ranking_models.bundle import Bundle, read_manifest
from ranking_models.bundle.rewriting import contents_of
from ranking_models.bundle.writing import write_bundle
from ranking_models.cache_evaluation import CacheEvaluation
from ranking_models.errors import BundleError
from ranking_models.logs import read_logs
from service.cli import run
from service.cli.bundle_location import demonstration, located
from tests.support.evaluations import grouped, write_bundle_for
from tests.support.logs import log_files, small_tables, write_log
from tests.support.simulated import simulated_bundle, simulated_log

ROOT = Path(__file__).parents[3]

QUICK = ["--data", "log", "--candidates", "3", "--top", "2", "--k", "2", "--resamples", "100"]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundle ``bundles/small`` without segments, and a log that fits it."""
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "log", small_tables())
    return write_bundle_for(tmp_path / "bundles", read_logs(log_files(tmp_path / "log")))


@pytest.fixture
def segmented(bundle):
    """The same, with segments."""
    opened = Bundle.open(bundle)
    segments = grouped(opened, count=3)
    contents = msgspec.structs.replace(contents_of(opened), name="segmented", segments=segments)
    return write_bundle(bundle.parent.parent, contents)


def test_the_figures_are_kept_beside_the_bundle_and_inspect_shows_them(segmented, capsys):
    assert run(["cache", "evaluate", "--bundle", "segmented", *QUICK]) == 0
    shown = capsys.readouterr().out

    assert "segment_rescore" in shown
    (beside,) = segmented.parent.glob("*.cache.json")
    assert f"wrote {beside}" in shown
    kept = msgspec.json.decode(beside.read_bytes(), type=CacheEvaluation)
    assert [mode.mode for mode in kept.modes] == ["exact", "segment", "segment_rescore"]
    assert run(["bundle", "inspect", "segmented"]) == 0
    assert "segment_rescore" in capsys.readouterr().out
    assert run(["bundle", "verify", "segmented"]) == 0


def test_json_alone_goes_to_standard_output(segmented, capsysbinary):
    assert run(["cache", "evaluate", "--bundle", "segmented", *QUICK, "--json"]) == 0

    printed = msgspec.json.decode(capsysbinary.readouterr().out, type=CacheEvaluation)

    assert printed.model.startswith("segmented@")


def test_other_numbers_of_segments_are_measured_and_not_kept(bundle, capsys):
    assert run(["cache", "evaluate", "--bundle", "small", *QUICK, "--segments", "1,2"]) == 0

    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines() if line.startswith("segment")]
    assert [line[1] for line in lines] == ["1", "1", "2", "2"]
    assert not list(bundle.parent.glob("*.cache.json"))


def test_a_bundle_of_the_simulated_marketplace_needs_no_rows(tmp_path, monkeypatch):
    """Nor the training stack, which serving does not install."""
    monkeypatch.chdir(tmp_path)
    simulated_bundle(tmp_path / "bundles", simulated_log(tmp_path / "log"))
    code = """
import sys
sys.modules.update(dict.fromkeys(("torch", "onnx", "pyarrow", "matplotlib")))
from service.cli import run
sys.exit(run(["cache", "evaluate", "--bundle", "market", "--top", "20", "--resamples", "100"]))
"""

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "simulated marketplace made anew: last tenth of all rows by time" in done.stdout
    assert "segment_rescore" in done.stdout
    assert list((tmp_path / "bundles/market").glob("*.cache.json"))


@pytest.mark.parametrize("split", ["global", "user"])
def test_of_a_log_the_rows_are_taken_that_the_bundles_training_held_out(
    tmp_path, monkeypatch, capsysbinary, split
):
    """Of another split some were trained on, and every mode would look better than it is."""
    monkeypatch.chdir(tmp_path)
    simulated_bundle(tmp_path / "bundles", simulated_log(tmp_path / "log"), split=split)
    evaluations = []
    for rows in ([], ["--data", "log"]):
        command = ["cache", "evaluate", "--bundle", "market", "--resamples", "100", "--json"]
        assert run([*command, *rows]) == 0
        printed = capsysbinary.readouterr().out
        evaluations.append(msgspec.json.decode(printed, type=CacheEvaluation))

    made_anew, of_log = evaluations
    assert made_anew.modes == of_log.modes
    assert made_anew.rows == of_log.rows


def test_the_demonstration_is_found_by_its_name_unless_another_model_has_it(bundle):
    shipped = located(None, "marketplace")

    assert shipped.is_relative_to(demonstration())
    assert located(None, f"marketplace@{shipped.name}") == shipped
    assert located(None, "small") == Path("bundles/small") / bundle.name
    for given in (Path("bundles"), bundle.parents[1]):
        with pytest.raises(BundleError, match="no model marketplace"):
            located(given, "marketplace")
    contents = msgspec.structs.replace(contents_of(Bundle.open(bundle)), name="marketplace")
    own = write_bundle(bundle.parents[1], contents)
    assert located(None, "marketplace").resolve() == own


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "log"], "has no segments; --segments 16"),
        ([], "either --data DIR or --run DIR; small@"),
        (["--data", "log", "--run", "run"], "either --data DIR or --run DIR (see"),
        (["--data", "log", "--save", "--segments", "2"], "leave --segments out"),
        (["--data", "log", "--segments", "2", "--precision", "fp8"], "fp8"),
        (["--data", "log", "--segments", "2", "--out", "nowhere/a.json"], "nowhere"),
        (["--data", "log", "--modes", "exactly"], "'exactly': there are segment, segment_rescore"),
        (["--data", "log", "--top", "ten"], "--top 'ten': numbers"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(bundle, capsys, arguments, says):
    assert run(["cache", "evaluate", "--bundle", "small", *arguments]) != 0

    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.count("\n") == 1
    assert not list(bundle.parent.glob("*.cache.json"))


def test_a_bundles_version_is_the_same_with_and_without_the_new_field(segmented):
    """Bundles written before it must still be found sound."""
    manifest = read_manifest(segmented)

    assert b'"modes"' not in msgspec.json.encode(manifest)
