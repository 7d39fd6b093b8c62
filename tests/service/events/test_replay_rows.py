"""Events that a backend sent and kept are the log that a replay needs."""

import json

import pytest

from experiments.events import Arm
from experiments.replay import ReplayRefused, TableInvalid, evaluate, log_of
from experiments.replay.policy import PolicyEntry, policy_of
from service.events.replay_rows import read_event_log
from service.events.signing import SigningKeys
from service.events.tokens import Claims, ExposureTokens, items_digest

TOKENS = ExposureTokens(SigningKeys({"k1": b"secret" * 6}, "k1"))


def token(slate, *arms):
    return TOKENS.sign(
        Claims(slate_id=slate, issued=1, expires=2, arms=arms, items=items_digest(["i1"]))
    )


def event(kind, slate, item="i1", *, exposure, position=1):
    return json.dumps(
        {
            "event_id": f"{kind}-{slate}-{item}",
            "type": kind,
            "slate_id": slate,
            "item_id": item,
            "position": position,
            "timestamp": "2026-11-22T10:00:00Z",
            "exposure": exposure,
        }
    )


def arm(variant="new", *, experiment="test", phase=1, unit="u1", propensity=0.25):
    return Arm(experiment, phase, variant, unit, propensity)


def rows(*lines, experiment="test", phase=None):
    return read_event_log(lines, experiment, phase=phase, where="events.ndjson")


def test_impressions_are_rows_and_clicks_their_reward():
    seen = token("s1", arm("new"), arm("x", experiment="other"))
    found = rows(
        event("click", "s1", "i2", exposure=seen),
        event("impression", "s1", "i1", exposure=seen),
        "",
        event("impression", "s1", "i2", exposure=seen, position=2),
        event("impression", "s2", exposure=token("s2", arm("old", unit="u2", propensity=0.75))),
    )

    assert [(r.action, r.reward, r.propensity, r.position, r.cluster) for r in found.rows] == [
        ("new", 0, 0.25, 1, "u1"),
        ("new", 1, 0.25, 2, "u1"),
        ("old", 0, 0.75, 1, "u2"),
    ]
    assert (found.phases, found.left_out) == ((1,), 0)


def test_events_sent_twice_count_once_and_strange_ones_are_left_out_and_counted():
    seen = token("s1", arm())
    found = rows(
        *[event("impression", "s1", exposure=seen)] * 3,
        event("click", "s1", "never shown", exposure=seen),
        event("impression", "s9", exposure=None),
        event("impression", "s8", exposure=token("s8", arm(experiment="other"))),
    )

    assert len(found.rows) == 1
    assert found.left_out == 3


def test_a_phase_can_be_picked():
    lines = [
        event("impression", f"s{phase}", exposure=token(f"s{phase}", arm(phase=phase)))
        for phase in (1, 2, 3)
    ]

    assert rows(*lines).phases == (1, 2, 3)
    assert rows(*lines, phase=2).phases == (2,)


def test_shares_that_moved_are_weighed_right():
    """A bandit gave ``new`` 10 % and then 90 %, while clicks became rarer for everybody: pooled,
    the better variant looks worse; weighed by its propensities it does not."""
    lines = []
    for n in range(4000):
        early = n < 2000
        share = 0.1 if early else 0.9
        new = (n % 10) < 10 * share
        rate = (0.4 if early else 0.1) + (0.05 if new else 0)
        variant, propensity = ("new", share) if new else ("old", 1 - share)
        slate = token(f"s{n}", arm(variant, unit=f"{n:016x}", propensity=propensity))
        lines.append(event("impression", f"s{n}", exposure=slate))
        if (n // 10) % 200 < 200 * rate:
            lines.append(event("click", f"s{n}", exposure=slate))
    log = log_of(rows(*lines).rows)

    def value(variant):
        target = policy_of([PolicyEntry(action=variant, probability=1)], log)
        return evaluate(log, target).values[0].interval.value

    def pooled(variant):
        return log.reward[log.action == log.actions.index(variant)].mean()

    assert pooled("new") < pooled("old")
    assert value("new") == pytest.approx(0.30, abs=0.01)
    assert value("old") == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "events.ndjson, line 1: it is no event"),
        ('{"type": "view"}', "line 1: it is no event"),
        (event("click", "s1", exposure="v1.k.e30.x"), "its exposure token is none of Podium's"),
        (event("click", "s1", exposure="junk"), "its exposure token is none of Podium's"),
    ],
)
def test_a_line_that_is_no_event_is_refused(line, reason):
    with pytest.raises(TableInvalid, match=reason):
        rows(line)


def test_an_experiment_without_events_is_no_log():
    found = rows(event("impression", "s1", exposure=token("s1", arm())), experiment="else")

    with pytest.raises(TableInvalid, match="it has no rows"):
        log_of(found.rows)
    with pytest.raises(ReplayRefused):
        evaluate(log_of(rows(event("impression", "s1", exposure=token("s1", arm()))).rows))
