"""``podium evaluate``: what people see, what is written, and what is refused."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ranking_models import metrics
from ranking_models.bundle import Bundle
from ranking_models.evaluation import Evaluation, encoded_rows
from ranking_models.logs import Logs, read_logs
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.run import save_run
from ranking_models.split import split_logs
from service.cli import run
from tests.support.evaluations import write_bundle_for
from tests.support.logs import SCHEMA, log_files, small_tables, write_log
from tests.support.runs import tiny_run

QUICK = ["--resamples", "100"]


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Logs:
    """A log in ``log``, and bundles ``small`` and ``other`` that fit it."""
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "log", small_tables())
    logs = read_logs(log_files(tmp_path / "log"))
    write_bundle_for(tmp_path / "bundles", logs)
    write_bundle_for(tmp_path / "bundles", logs, name="other", seed=7)
    return logs


def evaluated(*arguments: str) -> Evaluation:
    assert run(["evaluate", *arguments, *QUICK, "--out", "found.json"]) == 0
    return msgspec.json.decode(Path("found.json").read_bytes(), type=Evaluation)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The one line on standard error of a command that must fail and leave nothing."""
    before = sorted(Path().rglob("*"))
    assert run(["evaluate", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("podium: ")
    assert printed.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return printed.err


def scores_of(name: str, precision: str, logs: Logs, rows: np.ndarray) -> np.ndarray:
    """The graph in plain ONNX Runtime."""
    (path,) = Path("bundles", name).iterdir()
    bundle = Bundle.open(path)
    return onnx_runtime_scorer(bundle.graph(precision))(encoded_rows(logs, bundle.schema, rows))


def test_the_figures_are_those_of_the_test_rows(
    logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = split_logs(logs, "user").test
    scores, labels = scores_of("small", "fp32", logs, rows), logs.label[rows]

    found = evaluated("small", "--data", "log", "--k", "1")

    (scored,) = found.scored
    assert found.rows == 24
    assert scored.figures["auc"].value == pytest.approx(metrics.auc(scores, labels), abs=1e-12)
    assert scored.figures["hit_rate_at_k"].value == pytest.approx(
        metrics.hit_rate_at_k(scores, labels, logs.unit[rows], 1)
    )
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\x1b" not in printed.out
    assert f"AUC               {scored.figures['auc'].value:.4f} [" in printed.out
    assert "HR@1 " in printed.out
    assert printed.out.endswith("wrote found.json\n")


def test_rows_split_lists_and_segments_are_as_asked(logs: Logs) -> None:
    globally = evaluated("small", "--data", "log", "--split", "global")
    everything = evaluated(
        "small", "--data", "log", "--rows", "all", "--lists", "session",
        "--segment", "category", "--segment", "age",
    )  # fmt: skip

    assert globally.evidence == "small log: last tenth of all rows by time"
    assert "held out the last tenth of each user's rows" in globally.notes[0]
    assert (everything.rows, everything.list_kind) == (240, "session")
    assert everything.lists > 12
    assert "its figures are too good" in everything.notes[0]
    assert [table.feature for table in everything.segments] == ["category", "age"]
    assert [s.value for s in everything.segments[0].segments if s.note is None] == []  # 12 users


def test_a_second_precision_is_compared_on_the_same_rows(logs: Logs) -> None:
    rows = split_logs(logs, "user").test
    first, second = (scores_of("small", p, logs, rows) for p in ("fp32", "fp16"))

    found = evaluated("small", "--data", "log", "--against-precision", "fp16")

    (small,) = Path("bundles/small").iterdir()
    assert [scored.name for scored in found.scored] == [
        f"small@{small.name} {precision} on onnxruntime-cpu" for precision in ("fp32", "fp16")
    ]
    assert found.comparison is not None
    assert found.comparison.max_score_difference == pytest.approx(np.abs(first - second).max())


def test_a_second_bundle_is_compared_and_encodes_the_log_itself(logs: Logs, tmp_path: Path) -> None:
    """It has a vocabulary of its own, and still the same rows."""
    late = read_logs(write_log(tmp_path / "late", small_tables(seed=5)))
    write_bundle_for(tmp_path / "bundles", late, name="late", seed=3)
    rows = split_logs(logs, "user").test
    labels = logs.label[rows]

    found = evaluated("small", "--data", "log", "--against", "late", "--precision", "fp16")

    values = [scored.figures["auc"].value for scored in found.scored]
    assert values == pytest.approx(
        [metrics.auc(scores_of(n, "fp16", logs, rows), labels) for n in ("small", "late")]
    )
    assert found.comparison is not None
    assert found.comparison.figures["auc"].value == values[0] - values[1]


def test_json_on_standard_output_is_alone_there(
    logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "small", "--data", "log", *QUICK, "--json"]) == 0

    found = msgspec.json.decode(capsys.readouterr().out, type=Evaluation)
    assert found.rows == 24


def test_the_report_is_one_page(logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "small", "--data", "log", *QUICK, "--html", "report.html"]) == 0

    page = Path("report.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 3
    assert capsys.readouterr().out.endswith("wrote report.html\n")


def test_a_run_gives_the_rows_that_it_held_out(logs: Logs, tmp_path: Path) -> None:
    (path,) = Path("bundles/small").iterdir()
    bundle = Bundle.open(path)
    rows = np.arange(100, 180)
    run_of_log = msgspec.structs.replace(
        tiny_run(tmp_path / "held"),
        schema=bundle.schema,
        items=msgspec.structs.replace(tiny_run(tmp_path).items, features=bundle.items),
        users=msgspec.structs.replace(tiny_run(tmp_path).users, features=bundle.users),
        held_out=encoded_rows(logs, bundle.schema, rows),
        held_out_labels=logs.label[rows],
        held_out_units=logs.unit[rows],
        held_out_rows=rows,
        calibration=encoded_rows(logs, bundle.schema, rows),
    )
    save_run(run_of_log)

    found = evaluated("small", "--run", "held", "--segment", "position")

    (scored,) = found.scored
    scores = scores_of("small", "fp32", logs, rows)
    assert scored.figures["auc"].value == pytest.approx(metrics.auc(scores, logs.label[rows]))
    assert {s.value for s in found.segments[0].segments} == {"1", "2", "3"}


def test_a_run_of_other_features_is_refused(
    logs: Logs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(tiny_run(tmp_path / "tiny"))

    said = refused(capsys, "small", "--run", "tiny")

    assert "takes other features than the run tiny holds out; evaluate with --data" in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "either --data DIR or --run DIR"),
        (["--data", "log", "--run", "x"], 2, "either --data DIR or --run DIR"),
        (["--run", "x", "--rows", "all"], 2, "are for --data"),
        (["--data", "nowhere"], 1, "nowhere: there is no such folder"),
        (["--run", "nowhere"], 1, "nowhere: there is no run here"),
        (["--data", "log", "--precision", "int4"], 2, "has no precision 'int4'; it has fp16, fp32"),
        (["--data", "log", "--against-precision", "int4"], 1, "has no precision 'int4'"),
        (["--data", "log", "--engine", "abacus"], 2, "no engine 'abacus'"),
        (["--data", "log", "--against", "nobody"], 1, "there is no model nobody"),
        (["--data", "log", "--against", "small"], 1, "to be held against itself"),
        (["--data", "log", "--segment", "colour"], 1, "no feature 'colour' to cut by; there are"),
        (["--data", "log", "--html", "no/report.html"], 1, "no/report.html: cannot be written"),
        (["--data", "log", "--out", "log"], 1, "log: is a folder; name a file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_no_file(
    logs: Logs,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    assert words in refused(capsys, "small", *arguments, code=code)


@pytest.mark.parametrize(
    ("clicked", "words"),
    [
        ("", "column 'clicked', data row 1: the label is missing"),
        ("0", "column 'clicked' is 0 in every row; a model needs clicks and non-clicks"),
    ],
)
def test_a_log_without_labels_to_measure_on_is_refused(
    logs: Logs, capsys: pytest.CaptureFixture[str], clicked: str, words: str
) -> None:
    tables = small_tables()
    tables["interactions"] = [{**row, "clicked": clicked} for row in tables["interactions"]]
    write_log(Path("log"), tables)

    assert words in refused(capsys, "small", "--data", "log", "--html", "r.html", "--out", "r.json")


def test_test_rows_of_one_class_are_refused(logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    tables = small_tables()
    for n, row in enumerate(tables["interactions"]):
        if n % 20 >= 18:
            row["clicked"] = "1"
    write_log(Path("log"), tables)

    said = refused(capsys, "small", "--data", "log")

    assert "the label is 1 in all 24 rows of the test part" in said


def test_a_log_that_lacks_a_feature_of_the_model_is_refused(
    logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    without = SCHEMA.replace('[[features]]\nname = "age"\nsource = "user"\nkind = "numeric"\n', "")
    Path("log/schema.toml").write_text(without, "utf-8")

    said = refused(capsys, "small", "--data", "log")

    assert "takes the user numeric feature 'age', the log's schema declares none" in said


def test_two_reports_in_one_file_are_refused(
    logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, "small", "--data", "log", "--out", "m.out", "--html", "./m.out", code=2)
    assert "--out and --html are both m.out" in error
