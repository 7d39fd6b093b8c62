"""Rows are fetched while that costs less than to score them, and the rule does not waver."""

import numpy as np
import pytest

from service.cache.costs import FIRST_SAMPLES
from service.cache.worth import EXPLORED, RowWorth

DEAR_S, CHEAP_S = 8e-6, 1e-6
SCORING_S = 3e-6


class Simulation:
    """Requests of a hundred rows against a store and an engine with costs of their own."""

    def __init__(self, worth=None, seed=0):
        self.worth = worth or RowWorth("auto")
        self.random = np.random.default_rng(seed)

    def run(self, requests, *, lookup_s, scoring_s=SCORING_S, found=0.9, noise=0.3):
        """Share of the requests that fetched."""
        fetched = 0
        for _ in range(requests):
            self.worth.scoring_costs(scoring_s * self._noise(noise))
            if self.worth.fetches():
                fetched += 1
                hits = int(self.random.binomial(100, found))
                cost_s = 100 * lookup_s * self._noise(noise)
                alone = self.random.random() < 0.3
                self.worth.looked_up(100, hits, cost_s if alone else None)
        return fetched / requests

    def _noise(self, spread):
        return float(np.exp(spread * self.random.standard_normal()))

    @property
    def report(self):
        return self.worth.report()


def test_cheap_lookups_are_made():
    simulation = Simulation()

    assert simulation.run(2_000, lookup_s=CHEAP_S) == 1
    assert simulation.report.fetching


def test_dear_lookups_are_not_made_but_for_one_request_in_fifty():
    simulation = Simulation()
    simulation.run(500, lookup_s=DEAR_S)

    assert simulation.run(5_000, lookup_s=DEAR_S) == pytest.approx(1 / EXPLORED, rel=0.1)
    assert not simulation.report.fetching


def test_the_rule_changes_its_mind_when_the_costs_change_places_and_only_then():
    simulation = Simulation()
    simulation.run(1_000, lookup_s=CHEAP_S)
    changes = [simulation.report.changes]
    for lookup_s in (DEAR_S, CHEAP_S, DEAR_S):
        simulation.run(20_000, lookup_s=lookup_s)
        changes.append(simulation.report.changes)

    assert changes == [0, 1, 2, 3]
    assert not simulation.report.fetching


def test_a_dearer_model_makes_the_same_lookups_worth_their_price():
    simulation = Simulation()
    simulation.run(1_000, lookup_s=DEAR_S)
    assert not simulation.report.fetching

    simulation.run(20_000, lookup_s=DEAR_S, scoring_s=10 * SCORING_S)

    assert simulation.report.fetching


def test_lookups_that_find_nothing_are_not_worth_any_price():
    simulation = Simulation()
    simulation.run(1_000, lookup_s=CHEAP_S, found=0.05)

    assert not simulation.report.fetching


@pytest.mark.parametrize("seed", range(5))
def test_where_both_cost_the_same_it_does_not_go_to_and_fro(seed):
    simulation = Simulation(seed=seed)

    simulation.run(50_000, lookup_s=0.9 * SCORING_S, found=0.9)

    assert simulation.report.changes <= 1


def test_a_pause_of_the_machine_in_the_middle_of_a_lookup_changes_nothing():
    simulation = Simulation()
    simulation.run(1_000, lookup_s=CHEAP_S)

    simulation.worth.looked_up(100, 90, 5.0)

    assert simulation.report.fetching
    assert simulation.report.changes == 0


def test_nothing_is_decided_before_both_costs_are_known():
    worth = RowWorth("auto")
    for _ in range(FIRST_SAMPLES):
        worth.looked_up(100, 0, 1.0)

    assert worth.fetches()
    assert worth.report().scoring_row_s is None


@pytest.mark.parametrize(("mode", "fetches"), [("always", True), ("never", False)])
def test_the_settings_can_decide_it(mode, fetches):
    worth = RowWorth(mode)
    simulation = Simulation(worth)

    assert simulation.run(2_000, lookup_s=DEAR_S if fetches else CHEAP_S) == fetches
    assert worth.report().forced
    assert worth.report().fetching == fetches
