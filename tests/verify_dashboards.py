"""``make verify``: dashboards, rules and alerts against real tools and a real service.

    python -m tests.verify_dashboards           everything
    python -m tests.verify_dashboards --static  what needs no service, for ``make validate``

Grafana's own library, with which the dashboards must come out as they are committed, is in the
environment of deploy/locks/validate.txt. promtool, Prometheus and amtool are Debian's: those on
the PATH, else fetched; if they cannot be had, this says so and passes.

The whole of it starts ``podium serve`` with two workers on the demonstration's model, lets
shoppers shop in an experiment, asks for slates that are shed, late, or scored by the second
engine of a chain whose first one fails, and has Prometheus read it with the
configuration and rules of ``deploy/prometheus``. Then every query of every panel, every query
of every variable, every recording rule and every alert must give figures. There is no GPU here,
so figures of GPUs come from a page that the service's own collector makes of a recorded NVML;
the output says how many queries these are.
"""

import argparse
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tests.support.busy_service import HAPPENED, busy_service, make_busy
from tests.support.dashboards import (
    DEPLOY,
    PROMETHEUS,
    boards,
    choices,
    panel_queries,
    rules,
    substituted,
)
from tests.support.debian_tools import debian_tool
from tests.support.gpu_page import GPU_METRICS, serving_gpu_page
from tests.support.prometheus import Prometheus, prometheus

VALIDATORS = Path(f"{sys.prefix}-validate") / "bin" / "python"
SCRAPE_S = 1
WINDOW = "5m"
"""Longer than all of it takes, so that a rate sees what the traffic did."""
DEADLINE_S = 60.0
"""From the last request until every query has figures; most have them after two scrapes."""
COMPARISON = re.compile(r"(?<=\s)(==|!=|>=|<=|<|>)(?=\s)")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--static", action="store_true", help="only what needs no service")
    static: bool = parser.parse_args().static
    if static and not (VALIDATORS.parents[1] / ".done").exists():
        _say("dashboards: not checked, the validators are not installed")
    else:
        _dashboards_come_out_as_committed()
    promtool = debian_tool("promtool", package="prometheus")
    if promtool is None:
        _say("rules and alerts: not checked, see the reason above")
        return 0
    _validators_agree(promtool, debian_tool("amtool", package="prometheus-alertmanager"))
    program = debian_tool("prometheus", package="prometheus")
    if not static and program is not None:
        _every_query_has_figures(program)
    return 0


# --- without a service ------------------------------------------------------------------


def _dashboards_come_out_as_committed() -> None:
    assert VALIDATORS.exists(), f"{VALIDATORS} is not there; `make validate` makes it"
    command = [str(VALIDATORS), str(DEPLOY / "grafana" / "source"), "--check"]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, check=True, timeout=60, env=environ)
    _say(f"dashboards: {len(boards())} come out of their source as they are committed")


def _validators_agree(promtool: Path, amtool: Path | None) -> None:
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    tests = sorted((PROMETHEUS / "tests").glob("*.yml"))
    alertmanager = DEPLOY / "alertmanager" / "alertmanager.yml"
    checks: list[tuple[str, tuple[str | Path, ...]]] = [
        ("promtool check config", (promtool, "check", "config", PROMETHEUS / "prometheus.yml")),
        ("promtool check rules", (promtool, "check", "rules", *files)),
        ("promtool test rules", (promtool, "test", "rules", *tests)),
    ]
    if amtool is None:
        _say("alertmanager.yml: not checked, see the reason above")
    else:
        checks.append(("amtool check-config", (amtool, "check-config", alertmanager)))
    for what, command in checks:
        ended = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == 0, f"{what}:\n{ended.stdout}{ended.stderr}"
        _say(f"{what}: well")


# --- with a service ---------------------------------------------------------------------


def _every_query_has_figures(program: Path) -> None:
    with busy_service() as url, serving_gpu_page() as gpu_page:
        instance = url.removeprefix("http://")
        configuration = _configuration(instance, gpu_page)
        with prometheus(program, configuration, PROMETHEUS / "rules") as asked:
            make_busy(url)
            values = {
                "job": "podium",
                "__rate_interval": WINDOW,
                "__range": WINDOW,
                **dict.fromkeys(("surface", "variant", "engine", "experiment", "gpu"), ".*"),
            }
            _ask_all(asked, values, instance, gpu_page)
            found = asked.exemplars("podium_request_seconds_bucket")
            traces = [e["labels"]["trace_id"] for series in found for e in series["exemplars"]]
            assert traces, "no exemplar reached Prometheus"
            _say(f"exemplars: {len(traces)}, each with its trace")


def _configuration(*instances: str) -> Any:
    """The one that is shipped, with these instances, in a hurry."""
    shipped = msgspec.yaml.decode((PROMETHEUS / "prometheus.yml").read_bytes())
    hurry = {f"{what}_interval": f"{SCRAPE_S}s" for what in ("scrape", "evaluation")}
    shipped["global"] |= hurry | {"scrape_timeout": f"{SCRAPE_S}s"}
    del shipped["alerting"]
    (podium,) = [c for c in shipped["scrape_configs"] if c["job_name"] == "podium"]
    podium["static_configs"] = [{"targets": list(instances)}]
    shipped["scrape_configs"] = [podium]
    return shipped


def _ask_all(asked: Prometheus, values: dict[str, str], instance: str, gpu_page: str) -> None:
    """Ask everything again and again until all of it has figures."""
    waiting = dict(_questions(values, instance, gpu_page))
    total, of_gpu = len(waiting), sum(gpu_page in question for question in waiting.values())
    ends_at = time.monotonic() + DEADLINE_S
    while waiting and time.monotonic() < ends_at:
        waiting = {name: q for name, q in waiting.items() if not _has_figures(asked.query(q))}
        time.sleep(SCRAPE_S)
        if waiting:  # a rate needs traffic between two looks, and a fast machine is done by one
            make_busy(f"http://{instance}")
    told = "\n".join(f"  {name}: {question}" for name, question in waiting.items())
    assert not waiting, f"{len(waiting)} of {total} queries have no figures:\n{told}"
    _say(f"queries of panels, rules and alerts: all {total} have figures, {of_gpu} of them")
    _say("  those of GPUs and padding, from the service's own collector over a recorded NVML")
    for name, board in boards().items():
        for choice, query in choices(board).items():
            series, label = _label_values(query)
            match = substituted(series, values)
            assert asked.values(label, match), f"{name}: nothing to choose for ${choice}"
    _say("variables of dashboards: all have something to choose")


def _questions(values: dict[str, str], instance: str, gpu_page: str) -> Iterator[tuple[str, str]]:
    for number, query in enumerate(panel_queries()):
        where = gpu_page if GPU_METRICS.search(query.expression) else instance
        chosen = values | {"instance": where}
        yield f"{number} {query}", substituted(query.expression, chosen)
    for figure in HAPPENED:
        yield f"traffic: {figure}", f"sum({figure}) > 0"
    for rule in rules():
        # An alert that is well gives nothing; with `bool` it says so.
        expression = rule.expression
        yield rule.name, COMPARISON.sub(r"\1 bool", expression) if rule.is_alert else expression


def _has_figures(series: list[Any]) -> bool:
    return any(not math.isnan(float(one["value"][1])) for one in series)


def _label_values(query: str) -> tuple[str, str]:
    """The series and the label of ``label_values(series, label)``."""
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
    assert found is not None, query
    return found.group(1), found.group(2)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
