"""A notebook that gets the report and computes its main figures again, from the sums in it.

Written as plain JSON (nbformat 4.5), so nothing but Podium is needed to make it, and nothing
but Podium to run it: pictures are drawn where matplotlib is installed.
"""

import json
from typing import Any

from experiments.report.document import Report

_FETCH = """
import json
import os
import urllib.request

URL = {url}
PATH = {path}

request = urllib.request.Request(URL + PATH)
if os.environ.get("PODIUM_API_KEY"):
    request.add_header("Authorization", "Bearer " + os.environ["PODIUM_API_KEY"])
# Not through a proxy of the environment: the URL names the service itself.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
with opener.open(request, timeout=30) as response:
    report = json.load(response)
statistics = report["statistics"]
now = statistics[str(report["phase"])]
control, *treatments = [variant["name"] for variant in report["variants"]]
print(report["verdict"])
"""

_SPLIT = """
from experiments.stats import NotEnoughData
from experiments.stats.srm import check_split

units = [now[v["name"]]["users"] for v in report["variants"]]
try:
    split = check_split(units, [v["share_bp"] for v in report["variants"]])
    print("units", units, "p", split.p_value, "at every look", split.always_valid_p)
    print("the report says", report["split"])
except NotEnoughData as missing:
    print("not checked:", missing)
"""

_CTR = """
from experiments.report.sums import ctr_sample
from experiments.stats.ratio import always_valid_difference, ratio_difference

ctr = {}
for name, reported in zip(treatments, report["variants"][1:]):
    samples = ctr_sample(now[control]), ctr_sample(now[name])
    try:
        ctr[name] = always_valid_difference(*samples), ratio_difference(*samples)
    except NotEnoughData as missing:
        print(name, "cannot be compared:", missing)
        continue
    print(name, "at every look", ctr[name][0].relative, "p", ctr[name][0].p_value)
    print(name, "if this is the only look", ctr[name][1].relative, "p", ctr[name][1].p_value)
    print(name, "the report says", reported["difference"]["ctr_always"]["relative"])
"""

_LATENCY = """
from experiments.report.sums import latency_sample, sketch
from experiments.stats.geometric import always_valid_geometric_change
from experiments.stats.quantile import quantile

latency = {}
for name, reported in zip(treatments, report["variants"][1:]):
    samples = latency_sample(now[control]), latency_sample(now[name])
    try:
        latency[name] = always_valid_geometric_change(*samples)
    except NotEnoughData as missing:
        print(name, "cannot be compared:", missing)
        continue
    print(name, "computed slates, at every look", latency[name].relative)
    print(name, "the report says", reported["difference"]["latency_computed"]["always"])
for name in (control, *treatments):
    counts = sketch(now[name])
    if counts:
        print(name, "p50, p95, p99", [quantile(counts, q) for q in (0.5, 0.95, 0.99)])
"""

_FAILURES = """
from experiments.report.sums import failure_sample
from experiments.stats.rates import rate_interval

for name in (control, *treatments):
    try:
        print(name, "failed requests", rate_interval(failure_sample(now[name])))
    except NotEnoughData as missing:
        print(name, "failed requests:", missing)
"""

_POOLED = """
from experiments.stats.estimate import relative
from experiments.stats.sequential import always_valid_interval
from experiments.stats.stratified import Phase, pooled_change

used = [str(p["phase"]) for p in report["phases"] if p["kind"] != "before"]
for name in treatments:
    phases = [
        Phase(
            control=ctr_sample(statistics[phase][control]),
            treatment=ctr_sample(statistics[phase][name]),
        )
        for phase in used
    ]
    try:
        found = relative(always_valid_interval(pooled_change(phases)))
        print(name, "pooled over phases", ", ".join(used), found)
    except NotEnoughData as missing:
        print(name, "cannot be pooled:", missing)
"""

_PICTURE = """
try:
    import matplotlib.pyplot as pyplot
except ImportError:
    print("no picture: matplotlib is not installed")
else:
    figure, axes = pyplot.subplots(2, 1, figsize=(7, 4))
    for axis, title, changes in (
        (axes[0], "CTR", {name: both[0].relative for name, both in ctr.items()}),
        (axes[1], "computed latency", {name: c.relative for name, c in latency.items()}),
    ):
        for place, (name, change) in enumerate(changes.items()):
            axis.plot([100 * change.low, 100 * change.high], [place, place], linewidth=4)
            axis.plot(100 * change.value, place, "o")
        axis.set_yticks(range(len(changes)), list(changes))
        axis.axvline(0, color="grey")
        axis.set_title(title + ", change in percent, at every look")
    figure.tight_layout()
"""

_PREFERENCE = """
import numpy as np
from experiments.interleaving import preference
from experiments.stats import NotEnoughData

wins = now["interleaved"].get("team_wins", {})
credit = [np.asarray(wins.get(name, [0]), np.int64) for name in (control, *treatments)]
try:
    print(preference(*np.broadcast_arrays(*credit)))
    print("the report says", report["interleaving"]["preference"])
except NotEnoughData as missing:
    print("not known yet:", missing)
"""

_WEIGHTED = """
from experiments.report.sums import ctr_sample
from experiments.stats import NotEnoughData
from experiments.stats.ratio import RatioSample, ratio_interval

for variant in report["variants"]:
    clicks = impressions = 0.0
    for phase in report["phases"]:
        share = phase["shares_bp"][variant["name"]] / 10_000
        if phase["kind"] == "before" or not share:
            continue
        sample = ctr_sample(statistics[str(phase["phase"])][variant["name"]])
        clicks = clicks + sample.numerator / share
        impressions = impressions + sample.denominator / share
    try:
        found = ratio_interval(RatioSample(clicks, impressions))
        print(variant["name"], "weighted by inverse propensity", found)
    except NotEnoughData as missing:
        print(variant["name"], missing)
    print(variant["name"], "the report says", variant["weighted_ctr"])
"""


def notebook(report: Report, *, url: str, path: str) -> str:
    """The notebook of a report, as the text of an ``.ipynb`` file.

    Args:
        report: As it is now; decides what the notebook computes.
        url: Where the service listens.
        path: Of the report, with its query.
    """
    cells = [
        _markdown(
            f"# {report.key}, phase {report.phase}\n\n{report.told}\n\nThe figures of the report, "
            "computed again from its sums. Run it where Podium is installed; set "
            "`PODIUM_API_KEY` if the service asks for a key."
        ),
        _code(_FETCH.format(url=json.dumps(url.rstrip("/")), path=json.dumps(path))),
        *_comparing(report),
    ]
    for place, cell in enumerate(cells):
        cell["id"] = f"cell-{place}"
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _comparing(report: Report) -> list[dict[str, Any]]:
    if report.interleaving is not None:
        return [_markdown("## Whose picks users prefer"), _code(_PREFERENCE)]
    split = [_markdown("## Split of units"), _code(_SPLIT)]
    if report.plain_tests_refused is not None:
        return [*split, _markdown(f"## CTR\n\n{report.plain_tests_refused}."), _code(_WEIGHTED)]
    return [
        *split,
        _markdown("## CTR against the control"),
        _code(_CTR),
        _markdown("## Latency against the control"),
        _code(_LATENCY),
        _markdown("## Failures"),
        _code(_FAILURES),
        _markdown("## Pooled over the phases of this split"),
        _code(_POOLED),
        _code(_PICTURE),
    ]


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": text.strip(),
    }
