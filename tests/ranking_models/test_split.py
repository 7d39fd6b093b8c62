"""Every split goes by time, and no row is in two parts."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking_models.errors import InputError
from ranking_models.logs import Logs, read_logs
from ranking_models.split import Split, global_, per_user, split_logs
from tests.support.logs import ROWS_PER_USER, USERS, small_tables, write_log

rows_of_users = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), min_size=1, max_size=120)
"""(user, second) pairs; user 4 stands for nobody."""


def parts_cover_everything_once(split: Split, rows: int) -> bool:
    joined = np.concatenate([split.train, split.validation, split.test])
    return sorted(joined.tolist()) == list(range(rows))


@given(rows_of_users)
def test_per_user_the_last_tenth_is_test_and_the_one_before_validation(
    rows: list[tuple[int, int]],
) -> None:
    user = np.array([u for u, _ in rows], np.int32)
    seconds = np.array([s for _, s in rows], float)

    split = per_user(user, seconds, users=4)

    assert parts_cover_everything_once(split, len(rows))
    for u in range(4):
        tenth = np.count_nonzero(user == u) // 10
        times = [
            np.sort(seconds[part[user[part] == u]])
            for part in (split.train, split.validation, split.test)
        ]
        assert len(times[1]) == len(times[2]) == tenth
        assert np.all(np.diff(np.concatenate(times)) >= 0)  # never learn from a user's future
    assert np.count_nonzero(user[split.train] == 4) == np.count_nonzero(user == 4)


@given(rows_of_users)
def test_globally_nothing_is_learned_from_the_future(rows: list[tuple[int, int]]) -> None:
    seconds = np.array([s for _, s in rows], float)

    split = global_(seconds)

    assert parts_cover_everything_once(split, len(rows))
    assert len(split.validation) == len(split.test) == len(rows) // 10
    times = [np.sort(seconds[part]) for part in (split.train, split.validation, split.test)]
    assert np.all(np.diff(np.concatenate(times)) >= 0)


def test_rows_of_the_same_second_keep_the_order_of_the_file() -> None:
    split = per_user(np.zeros(20, np.int32), np.zeros(20), users=1)

    assert split.test.tolist() == [18, 19]
    assert split.validation.tolist() == [16, 17]


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return read_logs(write_log(tmp_path, small_tables()))


def test_the_split_of_a_log_says_what_it_is(logs: Logs) -> None:
    by_user, by_time = split_logs(logs, "user"), split_logs(logs, "global")

    assert by_user.description == "last tenth of each user's rows by time"
    assert len(by_user.test) == USERS * (ROWS_PER_USER // 10)
    assert by_time.description == "last tenth of all rows by time"
    assert len(by_time.test) == USERS * ROWS_PER_USER // 10


def test_a_log_whose_users_have_few_rows_is_refused_with_the_way_out(tmp_path: Path) -> None:
    tables = small_tables()
    tables["interactions"] = tables["interactions"][:9] + tables["interactions"][20:29]

    logs = read_logs(write_log(tmp_path, tables))

    with pytest.raises(InputError, match=r"no user has 10 rows.* use --split global"):
        split_logs(logs, "user")
    with pytest.raises(InputError, match=r"the label is . in all 1 rows of the validation part"):
        split_logs(logs, "global")
