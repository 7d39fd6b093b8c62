"""``podium experiment replay``: a table, JSON, or one line that says why not."""

import json
import zipfile

import pytest

from service.cli import run

LOG = "action,reward,propensity\n" + "a,1,0.5\na,0,0.5\nb,0,0.5\nb,0,0.5\n" * 100


@pytest.fixture
def shown(tmp_path):
    path = tmp_path / "shown.csv"
    path.write_text(LOG)
    return path


def refused(capsys, *arguments):
    assert run(["experiment", "replay", *map(str, arguments)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("podium: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_a_log_and_a_policy_become_a_table(shown, tmp_path, capsys):
    policy = tmp_path / "policy.csv"
    policy.write_text("action,probability\na,1\nb,0\n")

    assert run(["experiment", "replay", str(shown), "--policy", str(policy)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "400 rows of 400 clusters, 100 reward"
    assert lines[1].startswith("worth 200 rows for this policy; the weights average 1.000")
    values = {line.split()[0]: line.split()[1] for line in lines[5:]}
    assert values == {"SNIPS": "0.50000", "DR": "0.50000", "replay": "0.50000", "IPS": "0.50000"}


def test_json_holds_the_same(shown, tmp_path, capsys):
    policy = tmp_path / "policy.ndjson"
    policy.write_text('{"item": "a", "score": 2}\n{"item": "b", "score": 1}\n')

    assert run(["experiment", "replay", str(shown), "--policy", str(policy), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["support"]["effective_rows"] == pytest.approx(200)
    assert {value["estimator"]: value["interval"]["value"] for value in found["values"]} == {
        name: pytest.approx(0.5) for name in ("SNIPS", "DR", "replay", "IPS")
    }


def test_what_cannot_be_told_is_one_line(shown, tmp_path, capsys):
    policy = tmp_path / "policy.csv"
    policy.write_text("action,probability\na,0.5\nnew,0.5\n")

    assert "never shows" in refused(capsys, shown, "--policy", policy)
    assert "give a policy" in refused(capsys, shown)
    none = tmp_path / "none.csv"
    assert f"{none}: No such file or directory\n" in refused(capsys, none)
    assert "line 1: it is no event" in refused(capsys, shown, "--experiment", "test")
    shown.write_bytes(b"\xff\xfe")
    assert "utf-8" in refused(capsys, shown)


def wheel(path, *, clicks):
    """A wheel with the two files that the example reads, and 3 items instead of 34."""
    rows = [
        f"{n},2019-11-24,{n % 3},{n // 3 % 3 + 1},{int(n in clicks)},{1 / 3}" for n in range(900)
    ]
    header = ",timestamp,item_id,position,click,propensity_score"
    prior = "men:\n  alpha:\n    - 50.0\n    - 1.0\n    - 1.0\n  beta:\n    - 50.0\n"
    prior += "    - 99.0\n    - 99.0\nall:\n  alpha:\n    - 1.0\n  beta:\n    - 1.0\n"
    with zipfile.ZipFile(path, "w") as files:
        files.writestr("obp/dataset/obd/random/men/men.csv", "\n".join([header, *rows]) + "\n")
        files.writestr("obp/policy/conf/prior_bts.yaml", prior)
    return path


def test_the_open_bandit_example_replays_thompson_sampling_from_the_wheel(tmp_path, capsys):
    # Item 0 is all but certain in position 1, where it always has the click.
    made = wheel(tmp_path / "obp.whl", clicks=set(range(0, 900, 9)))

    assert run(["experiment", "replay", str(made), "--open-bandit", "men", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["logged"]["interval"]["value"] == pytest.approx(1 / 9)
    values = {value["estimator"]: value for value in found["values"]}
    assert values["IPS"]["interval"]["value"] == pytest.approx(1 / 3, rel=0.001)
    assert values["replay"]["missing"] == "the policy is not deterministic"


def test_another_file_is_not_the_wheel(shown, tmp_path, capsys):
    made = wheel(tmp_path / "obp.whl", clicks={1})

    assert "pip download --no-deps obp==0.4.1" in refused(capsys, shown, "--open-bandit", "men")
    assert "random/women/women.csv" in refused(capsys, made, "--open-bandit", "women")
    assert run(["experiment", "replay", str(made), "--open-bandit", "men", "--policy", "x"]) == 2
