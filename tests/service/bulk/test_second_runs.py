"""Which chunk a free process gets: all of them once, slow ones twice, and never a third time."""

import random

import msgspec

from service.bulk.chunks import Chunk, chunks
from service.bulk.desk import DeskProcess
from service.bulk.second_runs import Over, SecondRuns, Wait

CUT = [Chunk(0, 10), Chunk(10, 20), Chunk(20, 30), Chunk(30, 40)]
FIRST, SECOND, THIRD, LAST = CUT
UNTIL_SLOW_S = 20.0


def nearly_done():
    """Three chunks took 10 s each; the last has been under way since 20 s."""
    runs = SecondRuns(CUT)
    for task, began in enumerate((0.0, 0.0, 10.0, 20.0)):
        runs.take(task, began)
    for chunk, end in ((FIRST, 10.0), (SECOND, 10.0), (THIRD, 20.0)):
        runs.ended(chunk, end)
    return runs


def test_the_most_popular_come_first_and_each_goes_to_one_task():
    runs = SecondRuns(CUT)

    assert [runs.take(task, 0.0) for task in range(4)] == CUT


def test_a_chunk_that_takes_much_longer_than_the_others_is_run_a_second_time():
    runs = nearly_done()

    assert runs.take(4, 20.0 + UNTIL_SLOW_S) == Wait()
    assert runs.take(4, 20.1 + UNTIL_SLOW_S) == LAST


def test_and_never_a_third_time():
    runs = nearly_done()
    runs.take(4, 100.0)

    assert runs.take(5, 1_000.0) == Wait()


def test_whichever_run_ends_first_ends_the_chunk():
    runs = nearly_done()
    runs.take(4, 100.0)
    assert not runs.is_over(LAST)

    runs.ended(LAST, 105.0)

    assert runs.is_over(LAST)
    assert runs.take(5, 106.0) == Over()
    runs.ended(LAST, 200.0)
    assert runs.take(6, 201.0) == Over()


def test_what_nobody_has_begun_goes_before_what_is_slow():
    runs = SecondRuns(CUT)
    runs.take(0, 0.0)
    runs.take(1, 0.0)
    runs.ended(SECOND, 1.0)

    assert runs.take(2, 1_000.0) == THIRD
    assert runs.take(3, 1_000.0) == LAST
    assert runs.take(4, 1_000.0) == FIRST


def test_nothing_is_slow_before_anything_has_ended_nor_within_seconds():
    unknown = SecondRuns(CUT[:2])
    for task in (0, 1):
        unknown.take(task, 0.0)
    assert unknown.take(2, 1_000.0) == Wait()

    unknown.ended(FIRST, 0.1)
    assert unknown.take(2, 4.9) == Wait()
    assert unknown.take(2, 5.1) == SECOND


def test_a_task_that_runs_again_gets_what_it_had_and_its_time_anew():
    runs = nearly_done()

    assert runs.take(3, 100.0) == LAST
    assert runs.take(4, 100.0 + UNTIL_SLOW_S) == Wait()
    # Its end was told, and its report was lost with its process.
    assert runs.take(0, 100.0) == FIRST


def test_as_many_spare_tasks_as_processes_are_enough_whatever_dies():
    """Nobody waits for ever, and every chunk ends, when all first runs of the tail hang."""
    cut, processes = list(chunks(0, 97, 5)), 4
    for seed in range(20):
        chance, runs, now = random.Random(seed), SecondRuns(cut), 0.0
        hung, ended = set(), set()
        for task in range(len(cut) + processes):
            now += 1.0
            taken = runs.take(task, now)
            while taken == Wait():
                now += 1.0
                taken = runs.take(task, now)
            if taken == Over():
                continue
            # At most all processes but one hang.
            if len(hung) < processes - 1 and taken not in hung and chance.random() < 0.3:
                hung.add(taken)
                continue
            runs.ended(taken, now + 1.0)
            ended.add(taken)
        assert ended == set(cut)


def test_the_desk_speaks_text_and_goes_by_its_own_clock():
    now = [0.0]
    desk = DeskProcess(msgspec.json.encode(CUT[:2]), lambda: now[0])
    first, second = desk.take(0), desk.take(1)
    assert desk.take(2) is None

    desk.ended(first)
    now[0] = 6.0

    assert desk.take(2) == second
    assert desk.is_over(first)
    assert not desk.is_over(second)
    desk.ended(second)
    assert desk.take(3) == b"null"
