"""``podium experiment import-flagd``: all flags exactly, or none and why."""

import json

import pytest

from experiments.source import parse_experiments
from service.cli import run

SPLIT = {
    "state": "ENABLED",
    "variants": {"off": False, "on": True},
    "defaultVariant": "off",
    "targeting": {"fractional": [["off", 2], ["on", 1]]},
}
STATIC = {"state": "ENABLED", "variants": {"off": 0, "on": 1}, "defaultVariant": "off"}


@pytest.fixture
def flags(tmp_path):
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flags": {"new-ranker": SPLIT, "banner": STATIC}}))
    return path


def imported(*arguments):
    return run(["experiment", "import-flagd", *map(str, arguments)])


def test_a_flag_becomes_a_definition_that_podium_reads(flags, tmp_path, capsys):
    out = tmp_path / "experiments.toml"

    assert imported(flags, "--hash", "flagd-v2", "--flag", "new-ranker", "--out", out) == 0
    assert imported(flags, "--hash", "flagd-v2", "--flag", "new-ranker") == 0

    assert capsys.readouterr().out == out.read_text()
    (experiment,) = parse_experiments(out.read_text(), where="test")
    assert (experiment.key, experiment.hash) == ("new-ranker", "flagd-v2")
    assert experiment.weights == (2, 1)
    assert [variant.share_bp for variant in experiment.variants] == [6667, 3333]


def test_a_flag_that_cannot_be_said_stops_all_and_is_named(flags, tmp_path, capsys):
    out = tmp_path / "experiments.toml"

    assert imported(flags, "--hash", "flagd-v2", "--out", out) == 1

    printed = capsys.readouterr().err.splitlines()
    assert "$.flags.banner: it has no targeting, so it splits nobody" in printed[0]
    assert "1 of 2 flags" in printed[1]
    assert not out.exists()


def test_a_file_is_never_written_over(flags, tmp_path, capsys):
    out = tmp_path / "experiments.toml"
    out.write_text("mine")

    assert imported(flags, "--hash", "flagd-v2", "--flag", "new-ranker", "--out", out) == 1
    assert "File exists" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_the_hash_must_be_named_because_versions_disagree(flags, capsys):
    assert imported(flags) == 2
    assert imported(flags, "--hash", "flagd-v1") == 2
    assert imported(flags, "--hash", "flagd-v2", "--flag", "nowhere") == 1
    assert "there is no flag 'nowhere'" in capsys.readouterr().err


def test_flags_that_share_a_seed_cannot_run_side_by_side(tmp_path, capsys):
    by = {"cat": ["seed", {"var": "targetingKey"}]}
    shared = SPLIT | {"targeting": {"fractional": [by, ["off", 1], ["on", 1]]}}
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flags": {"one": shared, "other": shared}}))

    assert imported(path, "--hash", "flagd-v2") == 1
    assert "draw the same buckets" in capsys.readouterr().err
