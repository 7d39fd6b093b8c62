"""Which rows train, which stop the training, and which only measure the result.

Both splits go by time and give the last tenth to the test and the tenth
before it to validation, so that no row is judged by what came after it from
the same user (`per_user`) or from anybody (`global_`).
"""

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.errors import InputError
from ranking_models.schema import Int32

if TYPE_CHECKING:  # which brings pyarrow
    from ranking_models.logs import Logs

SplitName = Literal["user", "global"]
SPLIT_WORDS: dict[SplitName, str] = {
    "user": "last tenth of each user's rows by time",
    "global": "last tenth of all rows by time",
}
"""What the test part is, as a manifest says it."""

HELD_OUT_ROWS = 20_000
"""That a run keeps of the test part."""

Rows = npt.NDArray[np.intp]


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Row numbers of the three parts, each ascending; every row is in exactly one."""

    train: Rows
    validation: Rows
    test: Rows
    description: str
    """The test part in words."""


def split_logs(logs: "Logs", name: SplitName) -> Split:
    """Split a log by time.

    ``user``: of a user with n rows the last ``n // 10`` are the test and the
    ``n // 10`` before them validation, so users with fewer than 10 rows, and
    visitors without a user id, stay in training. ``global``: the same, with
    all rows of the log as one user's. Rows of the same second keep the order
    of the file.

    Raises:
        InputError: too few rows to hold any out, or a part without both
            clicks and non-clicks.
    """
    if name == "user":
        split = per_user(logs.user, logs.seconds, users=len(logs.users.ids))
        hint = "no user has 10 rows, so none can be held out; use --split global"
    else:
        split = global_(logs.seconds)
        hint = "the log needs at least 10 rows"
    if not len(split.test):
        raise InputError(f"{logs.file}: {hint}")
    for part in ("train", "validation", "test"):
        labels = logs.label[getattr(split, part)]
        if labels.min() == labels.max():
            raise InputError(
                f"{logs.file}: the label is {labels[0]:.0f} in all {len(labels)} rows of the "
                f"{part} part ({split.description} is the test); more rows are needed"
            )
    return split


def per_user(user: Int32, seconds: npt.NDArray[np.float64], *, users: int) -> Split:
    """Split each user's rows; rows of ``user >= users`` (no user id) all train."""
    rows = np.arange(len(user))
    order = np.lexsort((rows, seconds, user))
    sizes = np.bincount(user, minlength=users + 1)
    sizes_before = np.cumsum(sizes) - sizes
    from_end = np.empty(len(user), np.intp)  # 1 is the user's last row
    from_end[order] = (sizes_before + sizes)[user[order]] - rows
    tenth = np.where(user < users, sizes[user] // 10, 0)
    return _cut(from_end, tenth, SPLIT_WORDS["user"])


def global_(seconds: npt.NDArray[np.float64]) -> Split:
    """Split all rows together."""
    rows = np.arange(len(seconds))
    from_end = np.empty(len(seconds), np.intp)
    from_end[np.lexsort((rows, seconds))] = len(seconds) - rows
    return _cut(from_end, np.full(len(rows), len(rows) // 10), SPLIT_WORDS["global"])


def drawn(rows: Rows, most: int, *, seed: int) -> Rows:
    """All rows, or so many of them at random, ascending."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _cut(from_end: Rows, tenth: Rows, description: str) -> Split:
    test = from_end <= tenth
    validation = ~test & (from_end <= 2 * tenth)
    return Split(
        train=np.flatnonzero(~test & ~validation),
        validation=np.flatnonzero(validation),
        test=np.flatnonzero(test),
        description=description,
    )
