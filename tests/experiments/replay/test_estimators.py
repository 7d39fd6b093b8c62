"""The values of a policy: as another library computes them, and as planted."""

import numpy as np
import pytest

from experiments.replay import Log, PolicyEntry, Row, evaluate, log_of, policy_of
from experiments.replay.estimators import doubly_robust, ips, replayed, snips
from experiments.stats import NotEnoughData

LOGGED = {1: [0.1, 0.2, 0.3, 0.4], 2: [0.4, 0.3, 0.2, 0.1]}
ASKED = {1: [0.4, 0.3, 0.2, 0.1], 2: [0.1, 0.1, 0.1, 0.7]}


def arithmetic_log(count=480):
    """A log by a rule, the same for every library; its propensities are not its own."""
    rows = []
    for i in range(count):
        position, action = i % 2 + 1, (i * i * 3 + 7 * i + i // 5) % 4
        rows.append(
            Row(
                action=str(action),
                position=position,
                reward=float((i * i + 5 * i + i // 3) % 7 == 0),
                propensity=LOGGED[position][action],
                cluster=f"u{i % 60}",
            )
        )
    return log_of(rows)


def policy(log, by_position):
    return policy_of(
        (
            PolicyEntry(action=str(action), position=position, probability=probability)
            for position, probabilities in by_position.items()
            for action, probability in enumerate(probabilities)
        ),
        log,
    )


APPEAL = np.array([0.05, 0.1, 0.2, 0.3])


def simulated(seed, *, users=400):
    """Users with tastes of their own who see 1 to 9 items of a known policy."""
    random = np.random.default_rng(seed)
    shown = random.integers(1, 10, users)
    user = np.repeat(np.arange(users), shown)
    slot = random.integers(0, 2, len(user))
    ends = np.cumsum([LOGGED[1], LOGGED[2]], axis=1)[slot]
    action = np.minimum((random.random((len(user), 1)) > ends).sum(axis=1), 3)
    chance = random.gamma(4, 0.25, users)[user] * APPEAL[action] / (slot + 1)
    return Log(
        actions=("0", "1", "2", "3"),
        slots=(("", 1), ("", 2)),
        action=action,
        slot=slot,
        cluster=user,
        reward=(random.random(len(user)) < chance).astype(float),
        propensity=np.array([LOGGED[1], LOGGED[2]])[slot, action],
        target=None,
    )


def test_ips_snips_dr_and_replay_are_what_obp_computes():
    """obp 0.4.1 on the same rows; its DR was given the cross-fitted means of `reward_model`,
    computed with loops apart from this code."""
    log = arithmetic_log()
    asked = policy(log, ASKED)
    weights = asked.of_rows(log) / log.propensity

    assert ips(log, weights, confidence=0.95).value == pytest.approx(0.6163194444444444, rel=1e-12)
    assert snips(log, weights, confidence=0.95).value == pytest.approx(
        0.2416938997821351, rel=1e-12
    )
    robust = doubly_robust(log, weights, asked, confidence=0.95, folds=5)
    assert robust.value == pytest.approx(0.24708478211490076, rel=1e-12)


def test_replay_is_the_mean_of_what_a_deterministic_policy_would_have_shown():
    """obp 0.4.1 says 0.25 for item 2 in position 1 and item 0 in position 2."""
    log = arithmetic_log()
    rows = [
        Row(action=log.actions[a], position=log.slots[s][1], reward=float(r), propensity=0.25)
        for a, s, r in zip(log.action, log.slot, log.reward, strict=True)
    ]
    uniform = log_of(rows)
    chosen = policy(uniform, {1: [0, 0, 1, 0], 2: [1, 0, 0, 0]})
    weights = chosen.of_rows(uniform) / uniform.propensity

    assert replayed(uniform, weights, chosen, confidence=0.95).value == pytest.approx(0.25)
    with pytest.raises(NotEnoughData, match="not made uniformly"):
        replayed(log, weights, chosen, confidence=0.95)
    with pytest.raises(NotEnoughData, match="not deterministic"):
        replayed(uniform, weights, policy(uniform, ASKED), confidence=0.95)


def test_the_policy_of_the_log_is_worth_what_the_log_earned():
    log = simulated(1)

    found = evaluate(log, policy(log, LOGGED))

    values = {value.estimator: value.interval for value in found.values if value.interval}
    assert found.support.effective_rows == pytest.approx(found.rows)
    assert values["IPS"].value == pytest.approx(found.logged.interval.value)
    assert values["SNIPS"].value == pytest.approx(found.logged.interval.value)
    assert values["DR"].value == pytest.approx(found.logged.interval.value, abs=0.005)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Users of unequal taste and length, 200 logs; by the binomial 180 to 198 of 200 are fine."""
    truth = np.mean([np.dot(ASKED[position], APPEAL) / position for position in (1, 2)])
    covered = dict.fromkeys(("SNIPS", "DR", "IPS"), 0)
    for seed in range(200):
        log = simulated(seed, users=150)
        for value in evaluate(log, policy(log, ASKED)).values:
            if value.interval is not None:
                covered[value.estimator] += value.interval.low <= truth <= value.interval.high

    assert all(180 <= count <= 198 for count in covered.values()), covered


def test_a_log_that_is_written_twice_teaches_nothing_new():
    once = simulated(3)
    rows = [
        Row(
            action=once.actions[a],
            position=once.slots[s][1],
            reward=float(r),
            propensity=float(p),
            cluster=str(c),
        )
        for a, s, r, p, c in zip(
            once.action, once.slot, once.reward, once.propensity, once.cluster, strict=True
        )
    ]
    twice = log_of(rows * 2)
    first = evaluate(once, policy(once, ASKED))
    again = evaluate(twice, policy(twice, ASKED))

    for one, two in zip(first.values, again.values, strict=True):
        if one.interval is not None and one.estimator != "DR":
            assert two.interval.high == pytest.approx(one.interval.high)
            assert two.interval.low == pytest.approx(one.interval.low)


def test_without_the_whole_policy_there_is_no_dr_and_without_clicks_no_interval():
    log = simulated(4)
    weights = policy(log, ASKED).of_rows(log)
    rows = [
        Row(action=log.actions[a], reward=0.0, propensity=float(p), target=float(t))
        for a, p, t in zip(log.action, log.propensity, weights, strict=True)
    ]

    found = evaluate(log_of(rows))

    missing = {value.estimator: value.missing for value in found.values}
    assert missing["DR"] == "the log knows the policy's choice of logged actions only"
    assert missing["SNIPS"] == missing["IPS"] == "no rewards among the rows that count"
    assert found.support.unsupported is None


def test_nor_has_dr_an_interval_where_all_rewards_are_the_same():
    """Its residuals are all 0, which says nothing of the next click."""
    log = simulated(4)
    rows = [
        Row(action=log.actions[a], reward=0.0, propensity=float(p), position=log.slots[s][1])
        for a, p, s in zip(log.action, log.propensity, log.slot, strict=True)
    ]
    silent = log_of(rows)

    found = evaluate(silent, policy(silent, ASKED))

    (robust,) = (value for value in found.values if value.estimator == "DR")
    assert (robust.interval, robust.missing) == (None, "all rewards are the same so far")
