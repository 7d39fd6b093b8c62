"""Logs and policies as files: what is taken, and which line is refused for what."""

import pytest

from experiments.replay import TableInvalid, read_log, read_policy

CSV = """action,position,reward,propensity,context,cluster
i1,1,1,0.25,ios,u1
i2,2,0,0.5,ios,u1
i1,1,0,0.25,web,u2
"""
NDJSON = """{"action": "i1", "position": 1, "reward": 1, "propensity": 0.25, "context": "ios", "cluster": "u1"}
{"item": "i2", "position": 2, "reward": 0, "propensity": 0.5, "context": "ios", "cluster": "u1"}

{"action": "i1", "reward": 0, "propensity": 0.25, "context": "web", "cluster": "u2", "more": [1]}
"""  # noqa: E501


def log_of_text(text):
    return read_log(text.splitlines(keepends=True), where="shown.csv")


def policy_of_text(text, log):
    return read_policy(text.splitlines(keepends=True), log, where="new.csv")


@pytest.mark.parametrize("text", [CSV, NDJSON])
def test_csv_and_ndjson_say_the_same(text):
    log = log_of_text(text)

    assert log.actions == ("i1", "i2")
    assert log.slots == (("ios", 1), ("ios", 2), ("web", 1))
    assert log.action.tolist() == [0, 1, 0]
    assert log.cluster.tolist() == [0, 0, 1]
    assert log.propensity.tolist() == [0.25, 0.5, 0.25]
    assert log.target is None


def test_three_columns_are_enough():
    log = log_of_text("item,reward,propensity\ni1,0.5,1\ni1,0,1\n")

    assert log.slots == (("", 1),)
    assert log.clusters == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "shown.csv: it is empty"),
        ("action,reward,propensity\n", "it has no rows"),
        ("action,reward\ni1,1\n", "line 2: the column propensity is missing or empty"),
        ("action,reward,propensity\ni1,1,0\n", "line 2: propensity must be above 0"),
        ("action,reward,propensity\ni1,1,1.5\n", "line 2: propensity must be above 0"),
        ("action,reward,propensity\ni1,1,nan\n", "line 2: propensity must be a finite number"),
        ("action,reward,propensity\ni1,1,\n", "line 2: the column propensity is missing"),
        ("action,reward,propensity\ni1,yes,1\n", "line 2: reward must be a number, got 'yes'"),
        ("action,reward,propensity,position\ni1,1,1,0\n", "position must be a whole number from 1"),
        ("action,reward,propensity\ni1,1,1,9\n", "line 2: it has more cells than the 3 columns"),
        ('action,reward,propensity\n"i1,1,1\n', "line 2: unexpected end of data"),
        ('{"action": 1}\n[]\n', "line 1: the column propensity is missing"),
        ('{"action": "a", "reward": 0, "propensity": 1}\n[]\n', "line 2: each line must be a JSON"),
        ("{\n", "line 1: it is not JSON"),
        (
            "action,reward,propensity,target_propensity\ni1,1,1,0.5\ni1,1,1,\n",
            "1 of 2 rows lack target_propensity",
        ),
        ("action,reward,propensity,target_propensity\ni1,1,1,2\n", "target_propensity must be 0"),
    ],
)
def test_a_bad_log_is_refused_with_its_line(text, reason):
    with pytest.raises(TableInvalid, match=reason):
        log_of_text(text)


def test_a_policy_holds_everywhere_or_in_its_context_and_position():
    log = log_of_text(CSV)
    policy = policy_of_text(
        "action,probability,position,context\n"
        "i1,0.5,,\ni2,0.5,,\n"  # everywhere
        "i2,1,2,\n"  # but in position 2
        "i1,0.1,1,web\ni3,0.9,1,web\n",  # and for web
        log,
    )

    assert policy.of_rows(log).tolist() == [0.5, 1.0, 0.1]
    assert policy.names == ("i1", "i2", "i3")
    assert not policy.deterministic


def test_scores_stand_for_the_ranking_by_them():
    log = log_of_text(CSV)
    policy = policy_of_text("item,score\ni2,0.1\ni1,0.9\n", log)

    assert policy.deterministic
    assert policy.of_rows(log).tolist() == [1.0, 1.0, 1.0]
    swapped = policy_of_text("item,score\ni2,0.9\ni1,0.1\n", log)
    assert swapped.of_rows(log).tolist() == [0.0, 0.0, 0.0]


def test_probabilities_with_few_digits_are_made_to_sum_to_one():
    log = log_of_text("action,reward,propensity\na,1,0.333\nb,0,0.333\nc,0,0.333\n")
    policy = policy_of_text("action,probability\na,0.333\nb,0.333\nc,0.333\n", log)

    assert policy.of_rows(log).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("action,probability\ni1,0.5\n", "for position 1 of the context 'ios' sum to 0.5, not to"),
        ("action,probability\ni1,1\ni1,0\n", "every position has 'i1' twice"),
        ("action,probability,position\ni1,1,1\n", "nothing about position 2 of the context 'ios'"),
        ("action,probability\ni1,-1\ni2,2\n", "line 2: probability must be 0 to 1, got -1"),
        ("action,probability,score\ni1,1,\ni2,,1\n", "give probability or score, not both"),
        ("action,score,position\ni1,1,1\n", "line 2: a score holds for a context"),
        ("action,score\ni1,1\n", "nothing about position 2"),
    ],
)
def test_a_bad_policy_is_refused(text, reason):
    with pytest.raises(TableInvalid, match=reason):
        policy_of_text(text, log_of_text(CSV))
