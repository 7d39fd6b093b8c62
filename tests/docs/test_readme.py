"""What the README shows is what there is."""

import json
import re
import shlex
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import typer.main

from ranking_models.bundle import Bundle, find_bundle
from service.cli import app
from service.definitions import load_experiments
from service.deployments import Deployment, Deployments, bundle_directory
from service.features import BundleFeatures
from service.settings import DeploymentSettings, demo_settings_file, load_settings
from service.slate import PopularityOrder

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
LONGEST = 260
CAPITALS = {"NDJSON", "SIGTERM", "SIGKILL", "README", "CONTRIBUTING"}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def code():
    """Everything in code spans, fenced and indented blocks, comments left out."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join([*fenced, *re.findall(r"`([^`]+)`", prose)])
    return re.sub(r"(^|\s)#.*", "", lines)


@pytest.fixture(scope="module")
def bundle():
    directory = bundle_directory(load_settings(demo_settings_file(), environ={}))
    return Bundle.open(find_bundle(directory, "marketplace"))


def test_no_placeholder_is_left():
    prose = re.sub(r"```.*?```|`[^`]*`", "", TEXT, flags=re.DOTALL)

    assert set(re.findall(r"\b[A-Z]{6,}\b", prose)) <= CAPITALS
    assert not re.search(r"\b(TODO|FIXME|TBD|XXX)\b", TEXT)


def test_its_settings_and_its_experiments_load_together(tmp_path):
    found = blocks("toml")
    experiments = [text for text in found if "experiment" in tomllib.loads(text)]
    settings = [text for text in found if text not in experiments]
    (tmp_path / "podium.toml").write_text("\n".join(settings))
    (tmp_path / "experiments.toml").write_text("\n".join(experiments))

    loaded = load_settings(tmp_path / "podium.toml", environ={})

    assert experiments
    file = loaded.path(loaded.settings.experiments.file)
    assert load_experiments(file, loaded.settings.deployments).experiments


def test_the_reply_is_of_the_model_that_ships(bundle):
    (reply,) = (json.loads(text) for text in blocks("json") if '"slate_id"' in text)

    assert reply["model"]["name"] == bundle.manifest.name
    assert reply["model"]["version"] == bundle.manifest.version
    assert {item["id"] for item in reply["items"]} <= set(bundle.item_ids.tolist())


def test_the_request_is_the_one_that_the_service_prints(bundle):
    deployment = Deployment(
        name="ranker",
        settings=DeploymentSettings(model="marketplace", engines=("popularity",)),
        bundle=bundle,
        features=BundleFeatures(bundle),
        popularity=PopularityOrder(bundle.popularity),
        score_hash="",
        batcher=None,
    )
    printed = Deployments([deployment]).example_request("http://127.0.0.1:8080")
    shown = next(text for text in blocks("sh") if "/v1/rank" in text)

    assert shlex.split(shown.replace("\\\n", "")) == shlex.split(printed)


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"\bmake((?: \w+=\S+)*) ([a-z][a-z-]*)", code())

    assert named
    assert {target for _, target in named} <= targets


def test_every_verb_exists():
    named = re.findall(r"(?<![\w/.-])podium ([a-z-]+)(?: ([a-z-]+))?", code())

    assert named
    for verb, inner in named:
        command = typer.main.get_command(app).commands[verb]
        if hasattr(command, "commands"):
            assert inner in command.commands, f"podium {verb} {inner}"


def test_the_event_is_accepted_with_the_slate_and_token_of_a_reply(url):
    (shown,) = (text for text in blocks("sh") if "/v1/events" in text)
    (event,) = json.loads(shlex.split(shown)[-1])
    asked = {"candidates": [event["item_id"]], "session_id": "reader", "timeout_ms": 5000}
    reply = httpx.post(f"{url}/v1/rank", json=asked).json()
    own = {
        "slate_id": reply["slate_id"],
        "exposure": reply["exposure"],
        "timestamp": datetime.now(UTC).isoformat(),
    }

    results = httpx.post(f"{url}/v1/events", json=[event | own]).json()["results"]

    assert set(own) < set(event)
    assert [result["status"] for result in results] == ["accepted"]


def test_the_picture_of_the_live_page_is_one():
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+\.png)\)", TEXT)

    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


def test_it_can_be_read_before_one_loses_patience():
    assert len(TEXT.splitlines()) <= LONGEST
    assert TEXT.index("![") < TEXT.index("\n## "), "the picture belongs to the first screen"
