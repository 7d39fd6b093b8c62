"""Deployments share a lane fairly, however one of them floods it."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching.jobs import Part, ScoreJob
from service.batching.lanes import Lanes
from service.batching.sharing import MOST_EMPTY, Lane

LARGEST_BATCH = 8


def job(rows=1, of="a", *, at=0.0, priority="normal"):
    return ScoreJob(rows=rows, arrived_at=at, deadline=1e9, priority=priority, deployment=of)


def served(lane, largest=LARGEST_BATCH):
    """Take out the next part, as a batch would."""
    following, start = lane.next()
    part = Part(following, start, min(following.rows, start + largest))
    lane.leave(part)
    return part


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("abc"), st.integers(1, 20)),
        st.tuples(st.just("serve"), st.just(""), st.just(0)),
        st.tuples(st.just("withdraw"), st.just(""), st.integers(0, 100)),
    ),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_while_two_deployments_wait_they_get_the_same_within_a_part_of_each(events):
    """The bound that the module states, over every interval in which both wait."""
    lane, waiting = Lane(0.0), dict[ScoreJob, int]()
    lead = {pair: [0, 0, 0] for pair in itertools.combinations("abc", 2)}  # now, least, most

    def restart_where_somebody_is_away():
        present = {waits.deployment for waits in waiting}
        for pair, counts in lead.items():
            if not present.issuperset(pair):
                counts[:] = [0, 0, 0]

    for number, (event, deployment, amount) in enumerate(events):
        if event == "come":
            new = job(amount, deployment, at=float(number))
            lane.append(new)
            waiting[new] = 0
        elif waiting and event == "serve":
            part = served(lane)
            waiting[part.job] = part.stop
            for (one, other), counts in lead.items():
                of = part.job.deployment
                counts[0] += part.rows * ((of == one) - (of == other))
                counts[1], counts[2] = min(counts[1], counts[0]), max(counts[2], counts[0])
                assert counts[2] - counts[1] <= 2 * LARGEST_BATCH
            if part.stop == part.job.rows:
                del waiting[part.job]
        elif waiting and event == "withdraw":
            gone = list(waiting)[amount % len(waiting)]
            lane.discard(gone)
            del waiting[gone]
        restart_where_somebody_is_away()
        assert lane.rows == sum(waits.rows - left for waits, left in waiting.items())
        assert lane.jobs == len(waiting)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("come"), st.sampled_from("aaab"), st.integers(1, 20)),
            st.tuples(st.just("cut"), st.just(""), st.integers(1, 16)),
            st.tuples(st.just("withdraw"), st.just(""), st.integers(0, 100)),
        ),
        max_size=60,
    )
)
def test_a_lone_deployment_gets_the_batches_that_it_would_get_part_by_part(events):
    """And it stands where it would stand, when others come."""
    lanes, lane, waiting = Lanes(), Lane(0.0), list[ScoreJob]()
    for number, (event, deployment, amount) in enumerate(events):
        if event == "come":
            waiting.append(job(amount, deployment, at=float(number)))
            lanes.append(waiting[-1])
            lane.append(waiting[-1])
        elif waiting and event == "cut":
            parts = lanes.cut(amount)
            assert parts == tuple(part_by_part(lane, amount))
            left = {part.job for part in parts if part.stop == part.job.rows}
            waiting = [one for one in waiting if one not in left]
        elif waiting and event == "withdraw":
            gone = waiting.pop(amount % len(waiting))
            lanes.discard(gone)
            lane.discard(gone)
        assert (lanes.rows, lanes.jobs) == (lane.rows, lane.jobs)
        assert lanes.jobs == len(waiting)


def part_by_part(lane, largest):
    room = largest
    while room and lane.rows:
        following, start = lane.next()
        left = following.rows - start
        if left > room and following.rows <= largest and room <= MOST_EMPTY * largest:
            return
        part = Part(following, start, start + min(left, room))
        lane.leave(part)
        room -= part.rows
        yield part


def test_shares_are_counted_in_rows_and_not_in_jobs():
    lane = Lane(0.0)
    for _ in range(1000):
        lane.append(job(8, "large"))
        lane.append(job(1, "small"))

    parts = [served(lane) for _ in range(90)]

    assert sum(part.rows for part in parts if part.job.deployment == "small") == 80


def test_a_trickle_waits_for_one_part_of_the_flood():
    lane = Lane(0.0)
    for _ in range(1000):
        lane.append(job(8, "flood"))
    for _ in range(100):
        served(lane)

    trickle = job(3, "trickle", at=1.0)
    lane.append(trickle)

    assert trickle in {served(lane).job for _ in range(2)}


def test_who_was_away_has_saved_nothing_up():
    lane = Lane(0.0)
    lane.append(job(1, "back"))
    served(lane)
    for _ in range(1000):
        lane.append(job(8, "flood"))
    for _ in range(900):
        served(lane)
    for _ in range(100):
        lane.append(job(8, "back"))

    next_ones = [served(lane).job.deployment for _ in range(20)]

    assert 9 <= next_ones.count("flood") <= 11


def test_a_deployment_alone_is_served_in_the_order_of_arrival():
    lane = Lane(0.0)
    jobs = [job(rows, "only") for rows in (3, 20, 1, 7)]
    for each in jobs:
        lane.append(each)

    parts = []
    while lane.rows:
        parts.append(served(lane))

    assert [part.job for part in parts] == [jobs[0], jobs[1], jobs[1], jobs[1], jobs[2], jobs[3]]


def test_what_is_ahead_of_a_trickle_is_its_share_and_not_the_flood():
    lanes = Lanes()
    for _ in range(100):
        lanes.append(job(100, "flood"))

    assert lanes.rows_ahead(job(10, "flood"), enough=1e9) == 10_000
    assert lanes.rows_ahead(job(10, "trickle"), enough=1e9) <= 100


def test_importance_goes_before_fairness():
    lanes = Lanes()
    for _ in range(10):
        lanes.append(job(8, "vital", priority="high"))
    lanes.append(job(8, "other", priority="low"))

    parts = [lanes.cut(8)[0].job.deployment for _ in range(11)]

    assert parts == ["vital"] * 10 + ["other"]
