"""``make verify``: the live page and the page of the API in a real browser.

    .venv-page/bin/python -m tests.verify_page .venv/bin/python [--pictures DIR]

Runs in an environment that has playwright and axe (deploy/locks/page.txt) and drives the
Chromium on the PATH; without one this says so and passes. The service is started with the other
Python: once without keys and with simulated shoppers, and once with keys, for the changes that
need one. Any console message that is an error, and any request that leaves the service's origin,
is a failure. With ``--pictures`` every page is kept as a picture.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.support.page_service import ADMIN, DRAIN_S, READER, PageService, shopping

WIDTHS = (375, 768, 1440)
THEMES = ("light", "dark")
LIMIT_MS = 60_000
SOON_MS = 2_500
"""A change must be seen within a second or two; the rest is the browser's."""
GRAVE = ("serious", "critical")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
CHARTS = ("traffic", "latency", "hits", "queue", "batches", "trouble")
DRAWN = ("traffic", "latency", "hits", "queue", "batches")
"""Those that shoppers fill; nothing is shed here."""

LOOKS = """async () => {
  const { colourOf, dashOf, lineOf } = await import("/dashboard/chart.js");
  const labels = ["none", ...Array.from({ length: 30 }, (_, at) => `many:${at}`)];
  return labels.map((label) => `${colourOf(lineOf(label))} ${dashOf(lineOf(label))}`);
}"""
"""How the lines of many variants look."""
CONTRARY = """async () => {
  const { Experiments } = await import("/dashboard/experiments.js");
  const arm = (name) => ({ name, share_bp: 3333, serves: "ranker" });
  const view = {
    method: "split", state: "running", phase: 1, generation: 1, since: 0, traffic_bp: 1,
    stage: null, stages_bp: [], rule: "off", promoted: null, unready: null, missing: null,
  };
  const decisions = [{ at: "2026-01-01T00:00:00Z", action: "pause", by: "key:a", reason:
    "<img src=x onerror=alert(1)> \u202e reversed", dry_run: false, state: "paused",
    traffic_bp: null, figures: [] }];
  const nobody = (name) => ({ name, users: 0, impressions: 0, clicks: 0, change: null,
    change_missing: null, p50_ms: null, p95_ms: null, p99_ms: null, hit_rate: null,
    degraded_share: null, cost: null,
    ctr: { value: null, low: null, high: null, missing: "none" } });
  const figures = { phase: 1, confidence: 0.95, verdict: "Users prefer one.", plan: "", notes: [],
    split: { verdict: "unknown", always_valid_p: null, missing: "there is no split" }, decisions,
    decisions_missing: null, variants: ["a", "b"].map(nobody) };
  new Experiments().take([
    { ...view, key: "three", arms: ["a", "b", "c"].map(arm), figures },
    { ...view, key: "mixed", method: "interleave", arms: ["a", "b"].map(arm), figures },
  ]);
  const card = (key) => document.querySelector(`[data-key=${key}]`);
  const told = { three: card("three").innerText, mixed: card("mixed").innerText };
  card("three").querySelector("[data-verb=promote]").click();
  const radios = [...document.querySelectorAll("#ask-more input")];
  told.chosen = radios.filter((radio) => radio.checked).length;
  told.valid = document.querySelector("#ask-form").checkValidity();
  document.querySelector("#ask").close();
  told.images = document.querySelectorAll("#decisions img").length;
  told.apart = document.querySelector("#decisions bdi").textContent.includes("reversed");
  return told;
}"""
"""Experiments as seldom as they are possible, shown and read at once."""
CELLS = """() => [...document.querySelectorAll('[data-chart]')].map(({ chart, dataset }) => ({
  name: dataset.chart,
  bars: Boolean(chart.told.bars),
  columns: chart.columns,
  drawn: chart.drawn ? chart.drawn.data : null,
  cells: [...chart.table.body.rows].map((row) => [...row.cells].map((cell) => cell.textContent)),
}))"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("python", type=Path)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        _say("skipped: there is no chromium on the PATH (Debian: apt install chromium)")
        return 0
    pictures = given.pictures
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="podium-page-") as home,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            _without_keys(browser, PageService(given.python, Path(home) / "open"), pictures)
            _with_keys(browser, PageService(given.python, Path(home) / "keys", keys=True), pictures)
        finally:
            browser.close()
    return 0


def _without_keys(browser: Browser, service: PageService, pictures: Path | None) -> None:
    service.start()
    try:
        _empty(browser, service, pictures)
        _mode_costs(browser, service)
        with shopping(service):
            _filled(browser, service)
            for theme in THEMES:
                for width in WIDTHS:
                    _looks(browser, service, width, theme, pictures)
            _accessible(browser, service)
            _contrary(browser, service)
            _reconnects(browser, service, pictures)
        _documents(browser, service, pictures)
    finally:
        service.stop()


def _empty(browser: Browser, service: PageService, pictures: Path | None) -> None:
    """A page of a service that nobody asked for anything yet."""
    with _open(browser, service, "/dashboard") as page:
        _until(page, "document.querySelectorAll('.chart .empty:not([hidden])').length === 6")
        _until(
            page, "document.querySelector('.experiment')?.innerText.includes('Nobody was served')"
        )
        text = page.inner_text("main")
        assert "No rankings in the last ten minutes" in text
        assert "POST /v1/rank" in text
        _picture(page, pictures, "empty-1440-light")
    _say("without traffic every chart and experiment says what is missing, and what to do")


def _mode_costs(browser: Browser, service: PageService) -> None:
    """What the cache's modes cost is what /v1/models says, once for each bundle."""
    with _open(browser, service, "/dashboard") as page:
        _until(page, "document.querySelectorAll('#modes:not([hidden]) tbody tr').length > 0")
        told = page.evaluate(
            "fetch('/v1/models').then((reply) => reply.json())"
            ".then(({deployments}) => deployments[0].cache_modes.modes)"
        )
        lines = page.evaluate(
            "[...document.querySelectorAll('#modes tbody tr')]"
            ".map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
    assert [(line[1], line[3]) for line in lines] == [
        (mode["mode"], f"{mode['rows_saved']:.0%}".replace("%", " %")) for mode in told
    ]
    for line, mode in zip(lines[1:], told[1:], strict=True):
        change = mode["change"]["ndcg"]
        wanted = [f"{abs(change[end]):.4f}" for end in ("value", "low", "high")]
        assert re.findall(r"[0-9.]+", line[4]) == wanted, line
    _say(f"{len(told)} modes of the cache, and what each costs as the manifest says")


def _filled(browser: Browser, service: PageService) -> None:
    """Charts fill; what a table says is what its chart draws, and what the service counted."""
    with _open(browser, service, "/dashboard") as page:
        _until(
            page,
            "['traffic', 'latency', 'hits', 'queue', 'batches'].every((name) => document"
            ".querySelector(`[data-chart=${name}]`).chart.drawn?.data[0].length >= 1)"
            " && document.querySelectorAll('.track circle').length >= 2",
        )
        page.evaluate(
            "document.querySelectorAll('.chart details').forEach((d) => { d.open = true })"
        )
        _until(page, "document.querySelectorAll('.chart tbody tr').length > 10")
        found = {chart["name"]: chart for chart in page.evaluate(CELLS)}
    assert tuple(sorted(found)) == tuple(sorted(CHARTS))
    for name in DRAWN:
        _same(found[name])
    traffic = found["traffic"]["columns"]
    ranked = sum(2 * value for column in traffic[1:] for value in column if value)
    assert 0 < ranked <= service.counted("podium_requests_total"), ranked
    _say(f"{len(DRAWN)} charts have points, and their tables the same numbers")


def _same(chart: dict[str, Any]) -> None:
    columns, cells = chart["columns"], chart["cells"]
    assert chart["drawn"] == columns, f"{chart['name']}: drawn is not what is told"
    rows = [list(row) for row in zip(*columns[1:], strict=True)]
    shown = rows if chart["bars"] else rows[::-1][:60]
    assert len(shown) == len(cells) > 0, chart["name"]
    for values, row in zip(shown, cells, strict=True):
        for value, cell in zip(values, row[1:], strict=True):
            assert _says(cell, value), f"{chart['name']}: {cell!r} for {value}"


def _says(cell: str, value: float | None) -> bool:
    """Whether a cell is a value, as far as it is rounded."""
    if value is None:
        return cell == "–"
    number, _, unit = cell.replace(",", "").partition(" ")
    told = float(number) / (100 if unit == "%" else 1)
    return abs(told - value) <= max(0.06 / (100 if unit == "%" else 1), 0.006 * abs(value))


def _looks(
    browser: Browser, service: PageService, width: int, theme: str, pictures: Path | None
) -> None:
    with _open(browser, service, "/dashboard", width=width, theme=theme) as page:
        _until(page, "document.querySelectorAll('.track circle').length >= 2")
        _until(page, "document.querySelectorAll('.uplot canvas').length >= 5")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{width} px, {theme}: the page is {wide} px wide"
        _picture(page, pictures, f"dashboard-{width}-{theme}")
    _say(f"{width} px, {theme}: nothing to scroll sideways, no console errors, one origin")


def _accessible(browser: Browser, service: PageService) -> None:
    for theme in THEMES:
        with _open(browser, service, "/dashboard", theme=theme) as page:
            _until(page, "document.querySelectorAll('.track circle').length >= 2")
            page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
            _axe(page, f"page, {theme}")
            page.evaluate("document.querySelector('#key-place').open = false")
            page.focus("[data-verb=ramp]")
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog[open]")
            _axe(page, f"dialog, {theme}")
            page.keyboard.press("Escape")
            page.wait_for_selector("dialog:not([open])", state="attached")
            focused = page.evaluate("document.activeElement.dataset.verb")
            assert focused == "ramp", f"the focus is on {focused!r} after the dialog"
    _say("axe finds nothing serious in either theme; the keyboard opens and leaves a dialog")


def _axe(page: Page, what: str) -> None:
    grave = [v for v in Axe().run(page).response["violations"] if v["impact"] in GRAVE]
    told = [f"{v['id']}: {[n['html'][:120] for n in v['nodes'][:3]]}" for v in grave]
    assert not grave, f"{what}: {told}"


def _contrary(browser: Browser, service: PageService) -> None:
    with _open(browser, service, "/dashboard") as page:
        looks = page.evaluate(LOOKS)
        assert len(set(looks)) == len(looks) > 30, "two variants look the same"
        told = page.evaluate(CONTRARY)
    assert "0.01 %" in told["three"], told["three"]
    assert "Nobody was served" in told["three"], told["three"]
    assert "Users prefer one." in told["mixed"], told["mixed"]
    for word in ("CTR with", "split", "Nobody was served"):  # neither has a CTR of its own
        assert word not in told["mixed"].replace("Figures", ""), told["mixed"]
    assert (told["chosen"], told["valid"]) == (0, False), "a variant of three was chosen already"
    assert (told["images"], told["apart"]) == (0, True), "a reason is more than its text"
    _say("31 variants look different; interleaving, tiny shares and hostile reasons read well")


def _reconnects(browser: Browser, service: PageService, pictures: Path | None) -> None:
    with _open(browser, service, "/dashboard", errors_allowed=True) as page:
        _until(page, "document.querySelector('#line').textContent === 'live'")
        began = time.monotonic()
        service.stop()
        took = time.monotonic() - began
        _until(page, "document.querySelector('#line').textContent === 'reconnecting'")
        assert page.is_visible("#trouble")
        _picture(page, pictures, "reconnecting-1440-light")
        before = page.inner_text("#as-of")
        service.start()
        _until(page, "document.querySelector('#line').textContent === 'live'")
        page.wait_for_function(
            "before => document.querySelector('#as-of').textContent !== before",
            arg=before,
            timeout=LIMIT_MS,
        )
        assert not page.is_visible("#trouble")
    assert took < DRAIN_S / 2, f"an open page held up the end of the service: {took:.1f} s"
    _say(f"an open page lets the service end ({took:.1f} s), says so, and goes on after its return")


def _documents(browser: Browser, service: PageService, pictures: Path | None) -> None:
    document = service.get("/schema/openapi.json")
    operations = sum(len(path) for path in document["paths"].values())
    for theme in THEMES:
        with _open(browser, service, "/schema", theme=theme) as page:
            page.wait_for_selector(".opblock", timeout=LIMIT_MS)
            shown = page.locator(".opblock").count()
            assert shown == operations > 20, f"{shown} of {operations} operations"
            _picture(page, pictures, f"schema-1440-{theme}")
    with _open(browser, service, "/schema", width=375) as page:
        page.wait_for_selector(".opblock", timeout=LIMIT_MS)
        page.click(".opblock-summary-control")
        page.wait_for_selector(".responses-table", timeout=LIMIT_MS)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 375, f"an open operation is {wide} px wide"
    _say(f"the page of the API renders all {operations} operations, with nothing from elsewhere")


def _with_keys(browser: Browser, service: PageService, pictures: Path | None) -> None:
    service.start()
    try:
        with _open(browser, service, "/dashboard", errors_allowed=True) as page:
            _until(page, "document.querySelector('#line').textContent === 'needs a key'")
            _use(page, "a key with blanks, and a – ")
            assert page.evaluate("document.querySelector('#key:invalid') !== null")
            _use(page, READER)
            _until(page, "document.querySelector('.experiment [data-verb=ramp]') !== null")
            assert "'admin'" in _change(page, "ramp", refused=True)
            page.fill("#ask-more [type=number]", "")
            assert not page.evaluate("document.querySelector('#ask-form').checkValidity()")
            page.click("#ask-no")
            _say(
                "without a key the page asks for one; a reader's key may look, and is told no more"
            )
            page.click("#key-place summary")
            _use(page, ADMIN)
            _change(page, "ramp", reason="verified")
            _shows(page, "25 % of the eligible units", "running")
            _change(page, "promote", picture=(pictures, "dialog-1440-light"))
            _shows(page, "“model” serves everybody", "promoted")
            _change(page, "rollback")
            _shows(page, "rolled back since", "rolled back")
            stored = page.evaluate("[localStorage.length, document.cookie, location.href]")
            assert stored[0] == 0
            assert not stored[1]
            assert ADMIN not in stored[2]
        _audited(service)
    finally:
        service.stop()


def _audited(service: PageService) -> None:
    log = service.get("/v1/experiments/rollout/decisions")["decisions"]
    people = [(d["action"], d["by"], d["reason"]) for d in reversed(log) if d["by"] != "file"]
    assert people == [
        ("ramp", "key:operator", "verified"),
        ("promote", "key:operator", ""),
        ("rollback", "key:operator", ""),
    ], people
    _say("ramp, promote and roll back are clicked with the key, seen at once, and in the audit log")


def _use(page: Page, key: str) -> None:
    page.fill("#key", key)
    page.press("#key", "Enter")


def _change(
    page: Page,
    verb: str,
    *,
    reason: str = "",
    refused: bool = False,
    picture: tuple[Path | None, str] | None = None,
) -> str:
    page.click(f"[data-verb={verb}]")
    page.fill("#ask-reason", reason)
    if picture is not None:
        _picture(page, *picture, full=False)
    page.click("#ask-yes")
    _until(
        page,
        "!document.querySelector('dialog').open"
        " || document.querySelector('#ask-trouble').textContent !== ''",
    )
    told = page.text_content("#ask-trouble") or ""
    assert bool(told) == refused, f"{verb}: {told or 'it was done'}"
    return told


def _shows(page: Page, words: str, state: str) -> None:
    page.wait_for_function(
        "([words, state]) => { const text = document.querySelector('.experiment').innerText;"
        " return text.includes(words) && text.includes(state) }",
        arg=[words, state],
        timeout=SOON_MS,
    )


@contextmanager
def _open(
    browser: Browser,
    service: PageService,
    path: str,
    *,
    width: int = 1440,
    theme: str = "light",
    errors_allowed: bool = False,
) -> Iterator[Page]:
    """A page; afterwards nothing may have left the origin, nor any error be on the console."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
    )
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(f"uncaught: {error}"))
    page.goto(f"{service.url}{path}", wait_until="load")
    try:
        yield page
    finally:
        context.close()
    own = (f"{service.url}/", "data:", f"blob:{service.url}/")
    elsewhere = [url for url in asked if not url.startswith(own)]
    assert not elsewhere, f"{path} asked elsewhere: {elsewhere}"
    if errors_allowed:  # a lost connection and a 401 are on the console whatever a page does
        errors = [error for error in errors if not error.startswith("Failed to load resource")]
    assert not errors, f"{path}, {width} px, {theme}: {errors}"


def _until(page: Page, condition: str) -> None:
    page.wait_for_function(f"() => Boolean({condition})", timeout=LIMIT_MS)


def _picture(page: Page, folder: Path | None, name: str, *, full: bool = True) -> None:
    if folder is not None:
        page.screenshot(path=folder / f"{name}.png", full_page=full)


def _say(line: str) -> None:
    sys.stdout.write(f"the live page: {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (AssertionError, PlaywrightError) as broken:
        _say(f"BROKEN: {broken}")
        sys.exit(1)
    except subprocess.TimeoutExpired as late:
        _say(f"BROKEN: {json.dumps(late.cmd)} took too long")
        sys.exit(1)
