"""What experiments/stats/README.md shows must be true."""

import importlib
import re
from pathlib import Path

README = (Path(__file__).parents[3] / "experiments" / "stats" / "README.md").read_text()


def test_the_example_prints_what_it_says(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

    exec(example, {})

    assert capsys.readouterr().out.splitlines() == re.findall(r"^    (\+.*)$", README, re.MULTILINE)


def test_every_function_it_names_exists():
    table = README[README.index("| question") : README.index("An `Estimate`")]
    named = re.findall(r"`(\w+)\.(\w+)", table)

    assert len(named) > 15
    for module, function in named:
        assert callable(getattr(importlib.import_module(f"experiments.stats.{module}"), function))
