"""What experiments/README.md shows must be true."""

import re
from pathlib import Path

from experiments.assignment import bucket
from experiments.definition import Experiment
from experiments.source import parse_experiments

README = (Path(__file__).parents[2] / "experiments" / "README.md").read_text()


def test_the_example_is_a_valid_file():
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)

    (experiment,) = parse_experiments(example, where="README.md")

    assert [v.deployment for v in experiment.variants] == ["ranker-fp32", "ranker-fp16"]


def test_every_key_of_an_experiment_is_explained():
    table = README[README.index("| key | default") : README.index("Make the control")]
    explained = set(re.findall(r"`(\w+)`", table))

    assert {name for name in Experiment.__struct_fields__ if name != "variants"} <= explained


def test_the_buckets_shown_are_the_buckets_computed():
    table = README[README.index("| unit | `podium.holdout`") :].splitlines()
    salts = re.findall(r"`([^`]+)`", table[0])
    for line in table[2:4]:
        unit, *slots = (cell.strip(" `") for cell in line.strip("|").split("|"))
        assert [int(slot) for slot in slots] == [bucket(unit, salt) for salt in salts]
