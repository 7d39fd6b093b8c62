"""Interleaving beside an A/B test: ``python -m tests.bench interleaving``.

Shoppers come with a taste for clicking of their own, see slates of ten out of a hundred
items, and click by the appeal of an item and its place. One ranker is better by a planted
amount. Each method is given the same slates many times over; what is printed is how often
it sees the better ranker at 5 %, the same of two equal rankers, and what a draft costs.
"""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from experiments.interleaving import coins, preference, team_draft
from experiments.stats import NotEnoughData
from experiments.stats.ratio import RatioSample, ratio_difference

ITEMS, SLATE, PER_USER = 100, 10, 4
USERS = (50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800)
ROUNDS = 200
NOISE = 1.0
"""Of the control's estimate of the appeal of an item, in logits; the better ranker has less."""
GAIN = 0.3

Floats = npt.NDArray[np.float64]
Ranking = list[int]
Found = Callable[[np.random.Generator, int, float], bool]


def logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def rankings(rng: np.random.Generator, appeal: Floats, gain: float) -> tuple[Ranking, Ranking]:
    """The control's and the treatment's order of one request; for no gain equally good ones."""
    one = appeal + rng.normal(0, NOISE, ITEMS)
    other = appeal + rng.normal(0, NOISE * (1 - gain), ITEMS)
    return (-one).argsort()[:SLATE].tolist(), (-other).argsort()[:SLATE].tolist()


def clicked(rng: np.random.Generator, appeal: Floats, taste: float, slate: Ranking) -> list[bool]:
    """Clicks of a slate: fewer further down, more of who clicks much."""
    seen = 0.85 ** np.arange(len(slate))
    clicks = rng.random(len(slate)) < seen * logistic(appeal[slate] + taste)
    return [bool(click) for click in clicks]


def interleaving_finds(rng: np.random.Generator, users: int, gain: float) -> bool:
    won = np.zeros((2, users), np.int64)
    for user in range(users):
        taste = rng.normal(-3, 1)
        for _ in range(PER_USER):
            appeal = rng.normal(0, 1, ITEMS)
            first, second = rankings(rng, appeal, gain)
            # Below the slate's length the draft needs no more of either ranking.
            draft = team_draft(first, second, SLATE, coins(str(rng.integers(2**60)), "b", SLATE))
            clicks = clicked(rng, appeal, taste, list(draft.order))
            for team, click in zip(draft.teams, clicks, strict=True):
                won[team, user] += click
    return seen_in(lambda: preference(won[0], won[1]).p_value)


def split_finds(rng: np.random.Generator, users: int, gain: float) -> bool:
    clicks = np.zeros(users, np.int64)
    for user in range(users):
        taste = rng.normal(-3, 1)
        for _ in range(PER_USER):
            appeal = rng.normal(0, 1, ITEMS)
            slate = rankings(rng, appeal, gain)[user % 2]
            clicks[user] += sum(clicked(rng, appeal, taste, slate))
    shown = np.full(users // 2, PER_USER * SLATE)
    control, treatment = (RatioSample(clicks[arm::2], shown) for arm in (0, 1))
    return seen_in(lambda: ratio_difference(control, treatment).p_value)


def seen_in(p_value: Callable[[], float]) -> bool:
    try:
        return p_value() < 0.05
    except NotEnoughData:
        return False


def power(found: Found, users: int, gain: float, rounds: int) -> float:
    rng = np.random.default_rng(users)
    return sum(found(rng, users, gain) for _ in range(rounds)) / rounds


def users_for(powers: dict[int, float], wanted: float = 0.8) -> float | None:
    """Between the two sizes around, on a logarithmic scale."""
    for (few, low), (many, high) in pairwise(powers.items()):
        if low < wanted <= high:
            return float(few * (many / few) ** ((wanted - low) / (high - low)))
    return None


def users_needed(name: str, found: Found, budget: int) -> float | None:
    """Users for 80 % power; prints the way there. Large samples are drawn less often."""
    powers: dict[int, float] = {}
    for users in USERS:
        powers[users] = power(found, users, GAIN, max(40, min(ROUNDS, budget // users)))
        print(f"  {name:>12} {users:>7} users  {powers[users]:>6.1%}", flush=True)
        if powers[users] > 0.9:
            break
    return users_for(powers)


METHODS: dict[str, Found] = {"interleaving": interleaving_finds, "A/B": split_finds}


def cost_us() -> float:
    """Median microseconds of the coins and the draft of one slate of 20 out of 100."""
    rng = np.random.default_rng(1)
    first, second = (rng.permutation(ITEMS).tolist() for _ in range(2))
    took = []
    for n in range(2000):
        began = time.perf_counter()
        team_draft(first, second, 20, coins(str(n), "bench", 10))
        took.append(time.perf_counter() - began)
    return 1e6 * float(np.median(took))


def main() -> None:
    print(f"a draft of 20 of {ITEMS} items: {cost_us():.0f} us\n")
    print(f"a ranker with {GAIN:.0%} less noise, seen at 5 %:")
    needed = {name: users_needed(name, found, 60_000) for name, found in METHODS.items()}
    for name, users in needed.items():
        shown = f"more than {USERS[-1]:,}" if users is None else f"about {users:,.0f}"
        print(f"{name}: 80 % power with {shown} users")
    few, many = needed.values()
    if few is not None and many is not None:
        print(f"{many / few:.0f} times fewer")
    print("\nequal rankers, wrongly told apart at 5 %:")
    for name, found in METHODS.items():
        print(f"  {name:>12} {power(found, 100, 0.0, 400):>6.1%}")


if __name__ == "__main__":
    main()
