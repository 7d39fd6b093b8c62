"""The README's Python blocks do what they say, one after another."""

import re
from pathlib import Path

import msgspec
import podium_client
from podium_client import Client, PodiumError, RetryPolicy, Settings

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IN_THE_README = "http://127.0.0.1:8080"


def test_every_block_of_the_readme_runs(base_url):
    blocks = BLOCK.findall(README.read_text())
    names: dict[str, object] = {}

    for block in blocks:
        exec(compile(block.replace(IN_THE_README, base_url), str(README), "exec"), names)  # noqa: S102

    names["client"].close()
    names["patient"].close()
    assert len(blocks) == 5


def test_every_setting_error_and_method_is_in_the_readme():
    text = README.read_text()
    settings = {field.name for field in msgspec.structs.fields(Settings)} - {"retry"}
    retries = {f"retry.{field.name}" for field in msgspec.structs.fields(RetryPolicy)}
    errors = {
        name
        for name, value in vars(podium_client).items()
        if isinstance(value, type) and issubclass(value, PodiumError)
    }
    methods = {name for name in vars(Client) if not name.startswith("_")} - {"close"}

    told = {name for name in settings | retries | errors if f"`{name}`" in text}
    told |= {name for name in methods if re.search(rf"`{name}[`(]", text)}
    assert told == settings | retries | errors | methods


def test_defaults_in_the_readme_are_the_defaults():
    rows = re.findall(r"^\| (`[a-z_.`, ]+) \| ([0-9., ]+) \|", README.read_text(), re.MULTILINE)
    told = {
        name: float(value)
        for names, values in rows
        for name, value in zip(re.findall("[a-z_.]+", names), values.split(","), strict=True)
    }

    usual, retry = Settings(), RetryPolicy()
    known = {name: getattr(usual, name) for name in told if "." not in name}
    known |= {name: getattr(retry, name[6:]) for name in told if name.startswith("retry.")}
    assert told == known
    assert len(told) == 10
