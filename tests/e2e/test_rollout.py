"""A rollout that nobody touches: real requests, clicks through the API, decisions by the rule."""

import time
from datetime import UTC, datetime
from itertools import count

import pytest

from tests.support.server import SETTINGS, launched, make_home

TWO_WORKERS = SETTINGS.replace("workers = 1", "workers = 2")
JUDGED_OFTEN = "judge_every_s = 0.2\n"
ROLLOUT = """
[[experiment]]
key = "careful"
objective = "ctr"
[[experiment.variant]]
name = "control"
share_bp = 5000
deployment = "uncached"
[[experiment.variant]]
name = "new"
share_bp = 5000
deployment = "uncached"
[experiment.rollout]
automatic = true
stages_bp = [3000, 6000, 10000]
minimum_stage_s = 0.5
minimum_users = 20
ctr_margin = 0.5
latency_margin = 10.0
"""
LIMIT_S = 120.0
SHOWN = 4


@pytest.fixture
def home():
    home = make_home(settings=TWO_WORKERS, experiments=ROLLOUT)
    # The table of experiments is the last of the file.
    (home / "podium.toml").write_text((home / "podium.toml").read_text() + JUDGED_OFTEN)
    return home


class Shop:
    """Visitors who look at four items and, unless the variant is broken, often click on one."""

    def __init__(self, server):
        self.server = server
        self._numbers = count()

    def visit(self, people, *, broken=()):
        """The variants that they got."""
        events, got = [], []
        for _ in range(people):
            n = next(self._numbers)
            reply = self.server.rank(
                user={"id": f"visitor {n}"}, candidates=[f"i{n}" for n in range(8)]
            ).json()
            (mine,) = reply["experiments"]
            if mine["reason"] != "SPLIT":
                continue
            got.append(mine["variant"])
            shown = [("impression", place) for place in range(SHOWN)]
            clicks = [] if mine["variant"] in broken or n % 3 == 0 else [("click", n % SHOWN)]
            events += [event(reply, *what) for what in shown + clicks]
        accepted = self.server.client.post("/v1/events", json=events)
        assert accepted.status_code == 202
        return got

    @property
    def experiment(self):
        return self.server.client.get("/v1/experiments/careful").json()

    def decisions(self):
        """Oldest first."""
        found = self.server.client.get("/v1/experiments/careful/decisions").json()
        return found["decisions"][::-1]


def event(reply, kind, place):
    return {
        "event_id": f"{reply['slate_id']}-{kind}-{place}",
        "type": kind,
        "slate_id": reply["slate_id"],
        "item_id": reply["items"][place]["id"],
        "position": place + 1,
        "timestamp": datetime.now(UTC).isoformat(),
        "exposure": reply["exposure"],
    }


def visited_until(shop, condition, **how):
    """People come until it holds."""
    deadline = time.monotonic() + LIMIT_S
    while not condition(shop.experiment):
        assert time.monotonic() < deadline, [d["reason"] for d in shop.decisions()]
        shop.visit(20, **how)


@pytest.mark.slow
def test_a_variant_walks_two_stages_and_goes_back_when_its_clicks_stop_and_stays_back(home):
    with launched(home) as server:
        shop = Shop(server)
        visited_until(shop, lambda experiment: experiment["standing"]["stage"] == 2)
        shop.visit(20)  # a handful of clicks, and then no more
        visited_until(
            shop,
            lambda experiment: experiment["standing"]["state"] == "rolled_back",
            broken=("new",),
        )
        rolled_back_at = time.monotonic()
        while got := shop.visit(8):  # the other worker hears of it a moment later
            assert time.monotonic() < rolled_back_at + 2, got

        by_rule = [d for d in shop.decisions() if d["by"] == "rule"]
        acted = [d for d in by_rule if d["action"] in ("advance", "rollback", "promote")]
        assert [d["action"] for d in acted] == ["advance", "advance", "rollback"]
        assert [d["before"]["traffic_bp"] for d in acted] == [3_000, 6_000, 10_000]
        last = acted[-1]
        assert last["reason"].startswith("rolled back: 'new' has a lower CTR than 'control'")
        ctr = last["evidence"]["arms"][1]["ctr"]
        assert ctr["high"] < ctr["limit"] == -0.5
        assert last["evidence"]["minimum_users"] == 20
        server.stop()

    with launched(home) as server:
        shop = Shop(server)
        assert shop.experiment["standing"]["state"] == "rolled_back"
        assert shop.visit(20) == []
        assert [d for d in shop.decisions() if d["by"] == "rule"] == by_rule
