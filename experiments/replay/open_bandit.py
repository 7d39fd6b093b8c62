"""The Open Bandit dataset as a worked example: its random log, and its Thompson sampling.

A fashion shop logged two policies side by side, one uniformly at random and
one Bernoulli Thompson sampling (BTS), so what a replay of the random log says
about BTS can be compared with what BTS earned. The sample of 10,000 rows per
log, which the wheel ``obp==0.4.1`` holds, has some 40 clicks: enough to see how
it works, and too few to rank policies.

Source:
    Saito, Aihara, Matsutani, Narita (2021), "Open Bandit Dataset and Pipeline",
    NeurIPS Datasets and Benchmarks; arXiv:2008.07146.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from experiments.replay.log import Log, Row, log_of
from experiments.replay.policy import PolicyEntry
from experiments.replay.tables import TableInvalid, read_rows

CAMPAIGNS = ("all", "men", "women")
POSITIONS = 3
DRAWS = 100_000
_CHUNK = 10_000


def log_path(policy: str, campaign: str) -> str:
    """Where the wheel keeps the log of ``random`` or ``bts``."""
    return f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"


PRIOR_PATH = "obp/policy/conf/prior_bts.yaml"


def read_open_bandit(lines: Iterable[str], *, where: str) -> Log:
    """A log of the dataset; its rows name no user, so each is a cluster of its own.

    Raises:
        TableInvalid: it is another table.
    """
    rows = (
        Row(
            action=fields.text("item_id"),
            reward=fields.number("click"),
            propensity=fields.number("propensity_score"),
            position=int(fields.number("position")),
        )
        for fields in read_rows(lines, where=where)
    )
    return log_of(rows, where=where)


def thompson_sampling(
    prior: Iterable[str], campaign: str, *, draws: int = DRAWS, seed: int = 0
) -> Iterator[PolicyEntry]:
    """How often BTS with the shop's prior puts each item into each position.

    Args:
        prior: Lines of the dataset's ``prior_bts.yaml``.
        campaign: One of `CAMPAIGNS`.
        draws: Slates to draw; a share of 1 % is then known to 0.03 points at 100,000.
        seed: The same seed draws the same.

    Raises:
        TableInvalid: the prior has no such campaign.
    """
    clicks, others = _prior(prior, campaign)
    random = np.random.default_rng(seed)
    shown = np.zeros((POSITIONS, len(clicks)), np.int64)
    for start in range(0, draws, _CHUNK):
        size = (min(_CHUNK, draws - start), len(clicks))
        order = np.argsort(-random.beta(clicks, others, size), axis=1)
        for place in range(POSITIONS):
            shown[place] += np.bincount(order[:, place], minlength=len(clicks))
    for place, item in np.argwhere(shown):
        share = shown[place, item] / draws
        yield PolicyEntry(action=str(item), position=int(place) + 1, probability=float(share))


def _prior(lines: Iterable[str], campaign: str) -> tuple[list[float], list[float]]:
    """``alpha`` and ``beta`` of a campaign: YAML of two levels with lists of numbers."""
    found: dict[str, list[float]] = {}
    inside, name = False, ""
    for line in lines:
        text = line.strip()
        if line[:1].strip():
            inside = text == f"{campaign}:"
        elif inside and text.endswith(":"):
            name = text[:-1]
        elif inside and text.startswith("- "):
            found.setdefault(name, []).append(float(text[2:]))
    if set(found) != {"alpha", "beta"}:
        raise TableInvalid(PRIOR_PATH, None, f"it has no prior of the campaign {campaign!r}")
    return found["alpha"], found["beta"]
