"""The report of a running service: as text, JSON and a page, and computed again in a notebook."""

import contextlib
import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from tests.support.server import serving

EXPERIMENTS = """
[[experiment]]
key = "careful"
[[experiment.variant]]
name = "control"
share_bp = 5000
deployment = "uncached"
[[experiment.variant]]
name = "new"
share_bp = 5000
deployment = "uncached"
[experiment.rollout]
minimum_users = 20
"""
PATH = "/v1/experiments/careful/report"
VISITORS = 100
SHOWN = 4
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def shop():
    """A hundred visitors; those of the new variant click more. Then the new one goes back."""
    with serving(experiments=EXPERIMENTS) as server:
        server.client.post("/v1/experiments/careful/ramp", json={"traffic_bp": 10_000})
        clicks = sum(visit(server, n) for n in range(VISITORS))
        deadline = time.monotonic() + LIMIT_S
        # Slates and clicks come by streams of their own: the one may lag behind the other.
        while counted(server) != {"exposures": VISITORS, "clicks": clicks}:
            assert time.monotonic() < deadline, counted(server)
            time.sleep(0.05)
        yield server


def counted(server):
    variants = server.client.get(PATH).json()["variants"]
    return {what: sum(variant[what] for variant in variants) for what in ("exposures", "clicks")}


def visit(server, n):
    """One visitor; how many clicks it was."""
    reply = server.rank(user={"id": f"visitor {n}"}, candidates=[f"i{i}" for i in range(8)]).json()
    new = reply["experiments"][0]["variant"] == "new"
    places = [("impression", place) for place in range(SHOWN)]
    clicks = 2 + n % 2 if new else int(n % 4 > 0)
    places += [("click", place) for place in range(clicks)]
    events = [event(reply, *what) for what in places]
    assert server.client.post("/v1/events", json=events).status_code == 202
    return clicks


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


def podium(server, *options):
    command = [sys.executable, "-m", "service", "experiment", "report", "careful"]
    done = subprocess.run(
        [*command, "--url", server.base_url, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_one_report_in_all_its_forms(shop, tmp_path):
    found = shop.client.get(PATH).json()
    page = shop.client.get(PATH, headers={"Accept": "text/html"}).text
    file = tmp_path / "report.html"

    assert found["verdict"].startswith("'new' has a higher CTR than 'control', +")
    assert found["rule"]["action"] in ("continue", "hold")
    assert found["rule"]["acts"] == "asked"
    assert found["told"].startswith("Running since ")
    assert [made["action"] for made in found["decisions"]] == ["ramp", "define"]
    for variant in found["variants"]:
        assert variant["latency_by_engine"]["onnxruntime-cpu"]["p50"]["value"] > 0
        assert variant["predictions"] > 0
    assert "<svg" in page
    assert page.count("<section>") == page.count("</section>") > 5

    code, out, _ = podium(shop)
    assert code == 0
    assert "higher CTR" in out
    assert max(len(line) for line in out.splitlines()) <= 100
    code, out, _ = podium(shop, "--json")
    assert (code, json.loads(out)["variants"]) == (0, found["variants"])
    code, out, _ = podium(shop, "--html", str(file))
    assert (code, out) == (0, f"wrote {file}\n")
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_notebook_computes_what_the_report_says(shop, tmp_path):
    file = tmp_path / "report.ipynb"
    assert podium(shop, "--notebook", str(file))[0] == 0
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]

    known: dict = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in cells:
            if cell["cell_type"] == "code":
                exec(compile(cell["source"], cell["id"], "exec"), known)

    difference = shop.client.get(PATH).json()["variants"][1]["difference"]
    always, once = known["ctr"]["new"]
    assert vars_of(always.relative) == difference["ctr_always"]["relative"]
    assert once.p_value == difference["ctr"]["p_value"]
    latency = difference["latency_computed"]["always"]
    assert vars_of(known["latency"]["new"].relative) | {"missing": None} == latency
    assert known["split"].p_value == known["report"]["split"]["p_value"]
    assert "new pooled over phases" in printed.getvalue()


def vars_of(interval):
    return {"value": interval.value, "low": interval.low, "high": interval.high}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--json", "--html", "x.html"), "give one of --html, --notebook and --json"),
        (("--html", "/nowhere/x.html"), "/nowhere/x.html: No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_one_clear_line(shop, options, said):
    code, _, errors = podium(shop, *options)

    assert code != 0
    assert said in errors
    assert "Traceback" not in errors


def test_a_rollback_is_told_with_who_and_why(shop):
    shop.client.post("/v1/experiments/careful/rollback", json={"reason": "pages are slow"})

    found = shop.client.get(PATH).json()

    assert found["told"].startswith("Rolled back since ")
    assert "by a local user (pages are slow)" in found["told"]
    assert found["verdict"].startswith("Rolled back: 'new' has a higher CTR")
    assert found["plan"]["sentence"] == "No more data come: the experiment is rolled back."
    assert found["decisions"][0]["action"] == "rollback"
