"""Another version of a model behind a variant is another variant: it gets a phase of its own."""

import shutil
import time

from tests.support.bundles import write_tiny_bundle
from tests.support.server import SETTINGS, launched, make_home

EXPERIMENTS = """
[[experiment]]
key = "e"
[[experiment.variant]]
name = "cached"
share_bp = 5000
deployment = "ranker"
[[experiment.variant]]
name = "plain"
share_bp = 5000
deployment = "uncached"
"""
LIMIT_S = 20.0


def phase_of(server, user):
    (drawn,) = server.rank(user={"id": user}, candidates=["i1", "i2"]).json()["experiments"]
    return drawn["phase"]


def decisions_of(server):
    return server.client.get("/v1/experiments/e/decisions").json()["decisions"]


def test_activating_a_version_begins_one_phase_which_a_restart_keeps():
    two_workers = SETTINGS.replace("workers = 1\n", "workers = 2\n")
    home = make_home(settings=two_workers, experiments=EXPERIMENTS)
    try:
        with launched(home) as server:
            assert phase_of(server, "u1") == 1
            wanted = {"version": write_tiny_bundle(home / "bundles", seed=1).name}
            for verb in ("load", "activate"):
                done = server.client.post(f"/v1/models/tiny/{verb}", json=wanted)
                assert done.status_code == 200
            deadline = time.monotonic() + LIMIT_S
            while phase_of(server, "u1") != 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            newest, _ = decisions_of(server)
            assert newest["reason"].startswith("another model serves, ranker by tiny@")
            server.stop()
        with launched(home) as again:
            assert phase_of(again, "u1") == 2
            assert len(decisions_of(again)) == 2
    finally:
        shutil.rmtree(home, ignore_errors=True)
