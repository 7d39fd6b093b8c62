"""A log that cannot tell says so, in one sentence, instead of a number."""

import pytest

from experiments.replay import PolicyEntry, ReplayRefused, Row, evaluate, log_of, policy_of

SHOWN = {"a": 0.5, "b": 0.4, "c": 0.1}


def log(count=2000, *, scale=1.0, shown=SHOWN):
    """Each action as often as it is probable."""
    rows = []
    for action, share in shown.items():
        for n in range(round(count * share)):
            rows.append(Row(action=action, reward=float(n % 10 == 0), propensity=share * scale))
    return log_of(rows)


def asked(log, **shares):
    entries = (PolicyEntry(action=name, probability=share) for name, share in shares.items())
    return policy_of(entries, log)


def test_what_the_log_shows_can_be_asked():
    shown = log()
    found = evaluate(shown, asked(shown, a=0.1, b=0.4, c=0.5))

    assert found.support.mean_weight == pytest.approx(1)
    assert found.support.unsupported == 0
    # 2000 / sum of target^2 / propensity
    assert found.support.effective_rows == pytest.approx(2000 / (0.01 / 0.5 + 0.4 + 0.25 / 0.1))


def test_choices_that_the_log_never_shows_are_refused_and_named():
    shown = log()
    with pytest.raises(ReplayRefused, match=r"30\.0 % .* never shows .*'new' in position 1"):
        evaluate(shown, asked(shown, a=0.7, new=0.3))


def test_a_whole_policy_outside_the_log_is_refused():
    shown = log()
    with pytest.raises(ReplayRefused, match="no row that this policy would have chosen"):
        evaluate(shown, asked(shown, new=1.0))


def test_choices_below_one_percent_outside_are_told_and_not_refused():
    shown = log()
    found = evaluate(shown, asked(shown, a=0.995, new=0.005))

    assert found.support.unsupported == pytest.approx(0.005)


def test_too_few_rows_that_count_are_refused():
    shown = log(200)
    with pytest.raises(
        ReplayRefused, match=r"the 200 rows of the log are worth 20 .* 100 are need"
    ):
        evaluate(shown, asked(shown, c=1.0))
    assert evaluate(shown, asked(shown, c=1.0), minimum_effective_rows=20).values


@pytest.mark.parametrize("scale", [0.5, 0.9])
def test_propensities_of_another_policy_are_noticed(scale):
    shown = log(scale=scale)
    with pytest.raises(ReplayRefused, match="must average 1: the propensities are not those"):
        evaluate(shown, asked(shown, **SHOWN))


def test_a_log_without_any_target_is_refused():
    with pytest.raises(ReplayRefused, match=r"give a policy, or a log with .* target_propensity"):
        evaluate(log())
