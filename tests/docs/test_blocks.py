"""What the pages show of settings, experiments, replies and links is what there is."""

import json
import re
import tomllib
from urllib.parse import unquote

import msgspec
import pytest
import yaml

from experiments.source import parse_experiments
from ranking_models.log_schema import read_log_schema
from service.messages import (
    EventsReply,
    Explanation,
    FeedbackEvent,
    Problem,
    RankReply,
    RankRequest,
)
from service.settings import Settings, load_settings
from tests.support.documents import ROOT, all_blocks, anchors, links, name_of, pages

SHOWN = {
    language: [block for block in all_blocks() if block.language == language]
    for language in ("toml", "json", "yaml")
}
REPLIES = {
    "slate_id": RankReply,
    "candidates": RankRequest,
    "code": Problem,
    "results": EventsReply,
    "event_id": FeedbackEvent,
    "batch": Explanation,
}
"""By a key that the others do not have."""
SECTIONS = {
    field.name: field.type
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
}
_METRIC = re.compile(r"`(podium_[a-z0-9_]+)(?:\{[^`]*\})?`")
RECORDED = ("podium_client",)
_SETTING = re.compile(r"`([a-z]+)\.([a-z_]+)(?: = [^`]*)?`")
ATTRIBUTES = {"server.address", "server.port"}
"""Of spans: OpenTelemetry's own names."""
FILES = {"toml", "py", "md", "onnx", "json"}
TWO_VARIANTS = """
[[experiment]]
key = "shown"
{own}
[[experiment.variant]]
name = "a"
share_bp = 5000
[[experiment.variant]]
name = "b"
share_bp = 5000
"""


def places(shown):
    return [block.place for block in shown]


@pytest.mark.parametrize("block", SHOWN["toml"], ids=places(SHOWN["toml"]))
def test_a_settings_or_experiments_block_is_taken(block, tmp_path):
    tree = tomllib.loads(block.text)
    file = tmp_path / "shown.toml"
    file.write_text(block.text)
    if "interactions" in tree:
        assert read_log_schema(file).name
    elif isinstance(tree.get("experiment"), list):
        assert parse_experiments(block.text, where=block.place)
    elif "experiment" in tree:
        # A part of one: what it adds to the experiment above it.
        assert parse_experiments(experiment_with(tree["experiment"]), where=block.place)
    else:
        assert set(tree) <= set(Settings.__struct_fields__)
        file.write_text(block.text + "\n" + missing(tree))
        assert load_settings(file, environ={}).settings


def experiment_with(own):
    """A whole experiment around tables such as ``[experiment.rollout]``."""
    tables = "\n".join(
        f"[experiment.{name}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in table.items())
        for name, table in own.items()
    )
    return TWO_VARIANTS.format(own="") + tables


def missing(tree):
    """What a whole settings file has besides."""
    deployments = tree.get("deployments", {})
    named = next(iter(deployments), "ranker")
    lines = "" if deployments else '[deployments.ranker]\nmodel = "any"\n'
    return lines + ("" if "surfaces" in tree else f'[surfaces]\ndefault = "{named}"\n')


@pytest.mark.parametrize("block", SHOWN["json"], ids=places(SHOWN["json"]))
def test_a_json_block_is_of_a_type_of_ours_and_has_no_other_fields(block):
    shown = json.loads(block.text)
    kind = next(struct for key, struct in REPLIES.items() if key in shown)

    decoded = msgspec.convert(shown, kind)

    assert strange(shown, msgspec.to_builtins(decoded)) == set()


def strange(shown, known):
    """Keys of what is shown that are not in what was understood."""
    if isinstance(shown, dict) and isinstance(known, dict):
        inner = (strange(shown[key], known[key]) for key in shown.keys() & known.keys())
        absent = {key for key in shown.keys() - known.keys() if shown[key] is not None}
        return absent.union(*inner)
    if isinstance(shown, list) and isinstance(known, list | tuple):
        return set().union(*(strange(*pair) for pair in zip(shown, known, strict=True)))
    return set()


@pytest.mark.parametrize("block", SHOWN["yaml"], ids=places(SHOWN["yaml"]))
def test_a_yaml_block_is_yaml(block):
    assert yaml.safe_load(block.text)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page):
    for link in links(page.read_text("utf-8")):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        assert target.exists(), f"{link}: there is no {path}"
        assert ROOT in [target, *target.parents], f"{link} leads out of the repository"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text("utf-8")), f"{link}: no such heading"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_no_page_has_a_placeholder(page):
    text = page.read_text("utf-8")

    assert not {word for word in ("TODO", "FIXME", "TBD", "XXX") if word in text}


def test_every_setting_that_a_page_names_is_one():
    for page in pages():
        for section, key in _SETTING.findall(page.read_text("utf-8")):
            struct = SECTIONS.get(section)
            if struct is not None and key not in FILES and f"{section}.{key}" not in ATTRIBUTES:
                assert key in struct.__struct_fields__, f"{name_of(page)}: {section}.{key}"


def test_every_metric_that_a_page_names_is_one():
    """The page about telemetry has them all; its own test holds it to the service."""
    telemetry = (ROOT / "service" / "telemetry" / "README.md").read_text("utf-8")
    known = {re.sub(r"_total$", "", name) for name in _METRIC.findall(telemetry)}
    for page in pages():
        for name in _METRIC.findall(page.read_text("utf-8")):
            bare = re.sub(r"_(total|bucket|count|sum)$", "", name)
            assert bare in known or name.startswith(RECORDED), f"{name_of(page)}: {name}"
