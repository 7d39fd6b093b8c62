"""What the next moments will bring, learnt: when the next job comes, how long a batch takes.

A batch takes ``fixed + per row x rows``. If others are under way on the same
device it also waits for them, wholly if the device does one thing at a time,
not at all if each instance has a processor of its own, in part if they share
some of it: for ``serial share x (time until they are done)``. The three numbers
are fitted to what batches took, the newest counting most.
"""

import math

from msgspec import Struct

MEMORY = 0.98
"""What a batch still weighs when the next one has come: about the last 50 count."""

FIRST_BATCHES = 8
"""Before so many batches nothing is known."""

SOLVE_EVERY = 8
"""Batches from one fit to the next."""

PULL = 0.05
"""How hard a fit is held to the one before, in batches. Where all batches have one size, what is
fixed and what is per row cannot be told apart, and stays as it was."""

PULL_OF_SHARE = 0.01
"""The same for the serial share: batches that hardly overlap say little about it."""

FADING = 0.995
"""What is left of the serial share from one fit to the next without any news. Who believes in it
never lets two batches overlap, and so would never learn that they could."""

OUTLIER = 4.0
"""A batch counts as having taken at most so many times what was expected: a pause of the machine
teaches little, and a lasting change is learnt in a few steps."""

GAP_WEIGHT = 0.05
"""Of the newest arrival in the mean: about the last 40 count."""

LONGEST_GAP_S = 1.0
"""What a longer pause counts for: one at night does not hide the morning's traffic for long."""


class BatchTime(Struct, frozen=True):
    """How long a batch takes, in seconds."""

    fixed_s: float
    row_s: float
    serial_share: float
    """0: instances score side by side; 1: one after the other."""

    def seconds(self, rows: int) -> float:
        """How long a batch of so many rows takes if nothing else is under way."""
        return self.fixed_s + self.row_s * rows


class LearntBatchTime:
    """Fits a `BatchTime` to the batches that were executed."""

    def __init__(self) -> None:
        self.known: BatchTime | None = None
        """None until the first batches are done."""
        self._first: list[tuple[int, float, float]] = []
        self._rows_unit, self._s_unit = 1.0, 1.0  # so that all numbers are around 1
        # Sums over the batches of 1, rows, blocked time, took; their squares and products.
        self._sums = [0.0] * 9
        self._fit = (0.0, 0.0, 0.0)
        self._since_fit = 0

    def learn(self, rows: int, took_s: float, blocked_s: float) -> None:
        """Take in a batch.

        Args:
            rows: How many it had.
            took_s: From leaving the queue until its scores were there.
            blocked_s: For how much of that batches that had left before were still under way.
        """
        if self.known is None:
            self._first.append((rows, took_s, blocked_s))
            if len(self._first) == FIRST_BATCHES:
                self._begin()
            return
        self._add(rows, took_s, blocked_s)
        self._since_fit += 1
        if self._since_fit >= SOLVE_EVERY:
            self._solve()

    def _begin(self) -> None:
        took = sum(took_s for _, took_s, _ in self._first) / FIRST_BATCHES
        rows = sum(rows for rows, _, _ in self._first) / FIRST_BATCHES
        if took <= 0:
            self._first.clear()  # shorter than the clock can tell
            return
        self._rows_unit, self._s_unit = rows, took
        # Half and half until different sizes tell. All batches would count as outliers at first.
        self._fit = (0.5, 0.5, 0.0)
        for batch in self._first:
            self._add(*batch)
        self._first.clear()
        self._solve()

    def _add(self, rows: int, took_s: float, blocked_s: float) -> None:
        n, blocked, took = rows / self._rows_unit, blocked_s / self._s_unit, took_s / self._s_unit
        fixed, per_row, share = self._fit
        took = min(took, OUTLIER * max(fixed + per_row * n + share * blocked, 0.1))
        s1, sn, sb, snn, snb, sbb, st, snt, sbt = self._sums
        self._sums = [
            MEMORY * s1 + 1.0,
            MEMORY * sn + n,
            MEMORY * sb + blocked,
            MEMORY * snn + n * n,
            MEMORY * snb + n * blocked,
            MEMORY * sbb + blocked * blocked,
            MEMORY * st + took,
            MEMORY * snt + n * took,
            MEMORY * sbt + blocked * took,
        ]

    def _solve(self) -> None:
        self._since_fit = 0
        s1, sn, sb, snn, snb, sbb, st, snt, sbt = self._sums
        fixed, per_row, share = self._fit
        fixed, per_row, share = _solved(
            (s1 + PULL, sn, sb, snn + PULL, snb, sbb + PULL_OF_SHARE),
            (st + PULL * fixed, snt + PULL * per_row, sbt + PULL_OF_SHARE * FADING * share),
        )
        share = min(max(share, 0.0), 1.0)
        if per_row < 0:
            fixed, per_row = (st - share * sb) / s1, 0.0
        elif fixed < 0:
            fixed, per_row = 0.0, (snt - share * snb) / snn
        self._fit = (max(fixed, 0.0), max(per_row, 0.0), share)
        self.known = BatchTime(
            fixed_s=self._fit[0] * self._s_unit,
            row_s=self._fit[1] * self._s_unit / self._rows_unit,
            serial_share=share,
        )


class Arrivals:
    """How often jobs come, and how large they are."""

    def __init__(self) -> None:
        self.last_at = -math.inf
        self.gap_s: float | None = None
        """Mean time from one job to the next; None before the second."""
        self._rows = 0.0

    @property
    def rows_per_s(self) -> float | None:
        return None if not self.gap_s else self._rows / self.gap_s

    def learn(self, rows: int, at: float) -> None:
        """Take in a job that arrived."""
        last, self.last_at = self.last_at, at
        if last == -math.inf:
            self._rows = rows
            return
        gap, known = min(at - last, LONGEST_GAP_S), self.gap_s
        self.gap_s = gap if known is None else known + GAP_WEIGHT * (gap - known)
        self._rows += GAP_WEIGHT * (rows - self._rows)


def _solved(
    matrix: tuple[float, float, float, float, float, float],
    right: tuple[float, float, float],
) -> tuple[float, float, float]:
    """``x`` of ``A x = right`` for the symmetric ``A = [[a, b, c], [b, d, e], [c, e, f]]``."""
    a, b, c, d, e, f = matrix
    x, y, z = right
    # Cofactors; A is positive definite, so the determinant is not 0.
    m11, m12, m13 = d * f - e * e, c * e - b * f, b * e - c * d
    m22, m23, m33 = a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * m11 + b * m12 + c * m13
    return (
        (m11 * x + m12 * y + m13 * z) / determinant,
        (m12 * x + m22 * y + m23 * z) / determinant,
        (m13 * x + m23 * y + m33 * z) / determinant,
    )
