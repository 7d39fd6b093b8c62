"""Checking a file of experiments and loading it must agree."""

import pytest

from experiments.source import ExperimentInvalid
from service.definitions import load_experiments
from service.doctor.experiment_file import experiment_problems

VARIANTS = """[[experiment.variant]]
name = "a"
share_bp = 5000
[[experiment.variant]]
name = "b"
share_bp = 5000
deployment = "ranker"
"""
BASE = f'[[experiment]]\nkey = "x"\n{VARIANTS}'
KEYS = (
    "unit = 'user'",
    "unit = 'usr'",
    "layer_range_bp = [0]",
    "layer_range_bp = [0, 20000]",
    "layer_range_bp = ['a', 1]",
    "overrides = {u1 = 'a'}",
    "overrides = {u1 = 3}",
    "overrides = {u1 = 'c'}",
    "draw_order = ['a', 'b']",
    "draw_order = ['a', 3]",
    "rollout = {}",
    "rollout = {stages_bp = [5, 1]}",
    "rollout = {stages_bp = ['x']}",
    "targeting = [{field = 'f', op = 'in', value = ['a']}]",
    "targeting = [{field = 'f', op = 'in', value = 'a'}]",
    "targeting = [{field = 'f', op = 'in'}]",
    "variant = []",
    "variant = 3",
    "variants = []",
    "weights = [1, 2]",
    "state = 'promoted'",
    "traffic_bp = nan",
)


@pytest.mark.parametrize(
    "text",
    [
        *(
            f'[[experiment]]\nkey = "x"\n{line}\n{VARIANTS}'
            for line in KEYS
            if "variant" not in line
        ),
        *(f'[[experiment]]\nkey = "x"\n{line}\n' for line in KEYS),
        "",
        BASE,
        BASE + BASE,
        BASE.replace("ranker", "rnker"),
        BASE.replace("5000", "4000"),
        BASE.replace("[[experiment]]", "[experiment]"),
        "experiment = 3",
        "experiment = [3]",
        "[nonsense]",
        "[[experiment",
        "x = " + "[" * 5_000,
    ],
)
def test_no_problem_is_found_exactly_where_the_experiments_load(tmp_path, text):
    file = tmp_path / "experiments.toml"
    file.write_text(text)
    try:
        load_experiments(file, {"ranker"})
        loads = True
    except ExperimentInvalid:
        loads = False

    problems = experiment_problems(file, {"ranker"})

    assert loads == (not problems), problems
