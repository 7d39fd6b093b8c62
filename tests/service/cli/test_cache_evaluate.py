"""``podium cache evaluate``: what people see, what is kept, and what is refused."""

import msgspec
import pytest

from ranking_models.bundle import Bundle, read_manifest
from ranking_models.bundle.rewriting import contents_of
from ranking_models.bundle.writing import write_bundle
from ranking_models.cache_evaluation import CacheEvaluation
from ranking_models.logs import read_logs
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.segments import segments_of
from service.cli import run
from tests.support.evaluations import write_bundle_for
from tests.support.logs import log_files, small_tables, write_log

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
    segments = segments_of(
        onnx_runtime_scorer(opened.graph("fp32")),
        opened.schema,
        opened.users,
        opened.items,
        popularity=opened.popularity,
        count=3,
    )
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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "log"], "has no segments; --segments 16"),
        ([], "either --data DIR or --run DIR"),
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
