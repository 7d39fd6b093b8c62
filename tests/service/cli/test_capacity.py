"""``podium capacity``: the assumptions are what is asked for, and the answer says them."""

import json
import math

import msgspec
import pytest

from service.cli import run
from service.profiling.capacity import Assumptions
from service.profiling.capacity.measured import SHIPPED_BENCH, SHIPPED_STORY
from service.profiling.capacity.values import Capacity


def answer(capsys, *arguments):
    assert run(["capacity", *arguments, "--json"]) == 0
    return msgspec.json.decode(capsys.readouterr().out, type=Capacity)


def test_without_options_the_assumptions_are_the_defaults(capsys):
    found = answer(capsys)

    assert found.assumptions == Assumptions()
    assert [load.rankings_per_s for load in found.loads] == [1e3, 1e4, 1e5, 1e6, 1e7]


def test_every_assumption_has_an_option_that_reaches_it(capsys):
    changed = {
        "candidates": 50, "slate": 10, "hit_rate": 0.5, "heavier": 3.0, "utilisation": 0.7,
        "zones": 2, "cores": 4, "replica_gib": 3.0, "gpu_cores": 20.0, "gpu_left": 0.1,
        "slates": 1000, "slate_bytes": 500, "cache_server_gib": 8.0, "experiment_share": 0.2,
        "events_per_ranking": 3.0, "core_price": 0.1, "gib_price": 0.01, "gpu_price": 2.0,
        "cache_operations_per_s": 1e5, "installation_events_per_s": 5e3, "event_cpu_us": 100.0,
    }  # fmt: skip
    short = {
        "cache_operations_per_s": "cache-operations",
        "installation_events_per_s": "installation-events",
        "event_cpu_us": "event-us",
    }
    given = [
        word
        for name, value in changed.items()
        for word in (f"--{short.get(name, name.replace('_', '-'))}", str(value))
    ]

    assert set(changed) == set(Assumptions.__struct_fields__)
    assert answer(capsys, *given).assumptions == Assumptions(**changed)


def test_measurements_of_another_machine_are_taken(capsys, tmp_path):
    given = []
    for option, shipped in (("--measured", SHIPPED_BENCH), ("--story", SHIPPED_STORY)):
        found = json.loads(shipped.read_text())
        found["machine"]["cpu"] = f"another {option}"
        (tmp_path / option).write_text(json.dumps(found))
        given += [option, str(tmp_path / option)]

    measured = answer(capsys, *given).measured
    assert (measured.cpu, measured.story_cpu) == ("another --measured", "another --story")


def test_people_are_told_what_is_measured_and_what_is_assumed(capsys):
    assert run(["capacity", "--rankings-per-s", "50000", "--gpu-price", "1.25"]) == 0

    told = capsys.readouterr().out
    assert told.startswith("Measured:")
    assert "a GPU 1.25." in told
    assert "as assumed; that is not measured" in told
    assert "50,000 |" in told


@pytest.mark.parametrize("loads", ["0", "-1", "nan", "inf", "1,,2", "many", "1e12", ""])
def test_loads_that_are_none_are_refused(loads, capsys):
    assert run(["capacity", "--rankings-per-s", loads]) == 2
    assert "numbers above 0" in capsys.readouterr().err


def test_extremes_stay_numbers(capsys):
    found = answer(
        capsys, "--hit-rate", "1", "--slates", "0", "--core-price", "0", "--gib-price", "0"
    )  # fmt: skip

    for load in found.loads:
        assert all(math.isfinite(plan.per_million_rankings) for plan in load.plans)
