"""Every command for real, as a program uses it: one JSON document, the exit code, nothing else.

    python -m tests.verify_commands

From a simulated log to a bundle, through every way to make it smaller and to judge it, then a
service that is ranked against. Takes about two minutes, and needs the train extra. What only a
GPU or a network can do (`compile`, `data fetch`) is checked for its failure.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
FEW = ["--epochs", "1", "--batch-size", "1024"]
TOML = """
state_directory = "state"
[server]
port = 0
workers = 1
[models]
directory = "bundles"
[deployments.ranker]
model = "small"
[experiments]
file = "experiments.toml"
"""
EXPERIMENTS = """
[[experiment]]
key = "demo-ranker"
unit = "user_or_session"
[[experiment.variant]]
name = "a"
share_bp = 5000
deployment = "ranker"
[[experiment.variant]]
name = "b"
share_bp = 5000
deployment = "ranker"
"""
FLAGD = """{"flags": {"f": {"state": "ENABLED", "defaultVariant": "a",
"variants": {"a": "A", "b": "B"}, "targeting": {"fractional": [["a", 50], ["b", 50]]}}}}"""


class Commands:
    """Runs podium in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(home / "xdg")}

    def start(
        self, *arguments: str, stderr: IO[str] | int = subprocess.PIPE
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "service", *arguments, "--json"],
            cwd=self.home,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def answer(self, *arguments: str, code: int = 0) -> Any:
        """The document that a command prints, once it has ended as it should."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=600)
        what = f"podium {' '.join(arguments)}"
        assert process.returncode == code, f"{what}: ended with {process.returncode}: {err}"
        found = json.loads(out)
        assert ("error" in found) == (bool(code) and "podium: " in err), f"{what}: {out}"
        sys.stdout.write(f"{what}: {len(out):,} bytes of JSON\n")
        return found


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="podium-commands-"))
    try:
        commands = Commands(home)
        _models(commands)
        _settings(commands)
        _service(commands)
        _failures(commands)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _models(podium: Commands) -> None:
    """A log, a run, smaller runs, and bundles of them."""
    ask = podium.answer
    made = ask("simulate", "--out", "log", "--sessions", "1500", "--items", "300", "--users", "200")
    assert made["impressions"] > made["clicks"] > 0
    run = ask("train", "--data", "log", "--out", "runs/small", *FEW)
    assert 0 < run["quality"]["auc"] <= 1
    exported = ask("export", "--run", "runs/small", "--split")
    assert (podium.home / exported["path"] / "manifest.json").exists()
    half = ask("prune", "--run", "runs/small", "--data", "log", "--out", "runs/half", "--force")
    assert half["parameters"] < half["parent"]["parameters"]
    learnt = ["--architecture", "wide-and-deep", "--hidden", "8", *FEW, "--force"]
    ask("distil", "--run", "runs/small", "--data", "log", "--out", "runs/tiny", *learnt)
    eight = ["--bundle", "small", "--run", "runs/small", "--target", "cpu", "--force"]
    assert "int8-cpu" in ask("quantise", *eight)["precisions"]
    assert ask("bundle", "verify", "small")["sound"]
    assert ask("bundle", "inspect", "small")["name"] == "small"
    assert ask("bundle", "diff", exported["model"], "small")
    again = ["--bundle", "small", "--items", "log/items.parquet", "--schema", "log/schema.toml"]
    assert ask("bundle", "with-catalogue", *again)["counts"]
    _imported(podium, exported["path"])
    short = ["--data", "log", "--resamples", "100"]
    assert ask("evaluate", "small", *short)
    assert ask("cache", "evaluate", "--bundle", "small", *short, "--segments", "4", "--top", "10")
    assert ask("bench", "small", "--seconds", "1", "--rows", "100", "--engines", "onnxruntime-cpu")


def _imported(podium: Commands, bundle: str) -> None:
    """Our own graph, as if it were somebody else's."""
    manifest = json.loads((podium.home / bundle / "manifest.json").read_text())
    (podium.home / "features.json").write_text(json.dumps(manifest["schema"]))
    graph = str(Path(bundle) / manifest["precisions"]["fp32"]["file"])
    told = ["--schema", "features.json", "--data", "log", "--name", "foreign"]
    assert podium.answer("bundle", "import", graph, *told)["name"] == "foreign"


def _settings(podium: Commands) -> None:
    (podium.home / "podium.toml").write_text(TOML)
    (podium.home / "experiments.toml").write_text(EXPERIMENTS)
    (podium.home / "flags.json").write_text(FLAGD)
    assert podium.answer("config", "check", "--config", "podium.toml")["fine"]
    assert podium.answer("config", "explain", "--config", "podium.toml")["settings"]
    assert podium.answer("doctor", "--config", "podium.toml")["findings"]
    flagd = podium.answer("experiment", "import-flagd", "flags.json", "--hash", "flagd-v2")
    assert flagd["experiments"] == ["f"]
    rows = "".join(f"{i % 2},{i % 3 == 0:d},0.5,0.5\n" for i in range(400))
    (podium.home / "shown.csv").write_text(f"action,reward,propensity,target_propensity\n{rows}")
    assert podium.answer("experiment", "replay", "shown.csv")


def _service(podium: Commands) -> None:
    """A service, its experiments and its cache, and shoppers."""
    log = podium.home / "serve.log"  # a pipe that nobody reads would stop it once it is full
    with (
        log.open("w") as errors,
        podium.start("serve", "--config", "podium.toml", stderr=errors) as process,
    ):
        assert process.stdout is not None
        told = _first_document(process.stdout)
        assert told, f"podium serve ended: {log.read_text()}"
        at = ["--url", told["url"]]
        try:
            assert podium.answer("doctor", "--ready", *at)["status"] == "ready"
            sizes = ["--items", "300", "--users", "200"]
            played = podium.answer("simulate", *at, "--sessions", "50", *sizes)
            assert played["everything"]["slates"] > 0
            _experiment(podium, at)
            warmed = podium.answer("cache", "warm", "--top", "20", *at)
            assert warmed["computed"] + warmed["cached"] + warmed["empty"] == 20
            assert podium.answer("cache", "inspect", "--count", *at)
            assert podium.answer("cache", "flush", *at)["epoch"]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
    assert process.returncode == 0
    shown = podium.answer("demo", "--sessions", "100")
    assert not shown["faults"]


def _first_document(lines: Iterable[str]) -> Any:
    """What a command that goes on prints first; None if it ended without."""
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            return json.loads(text)
    return None


def _experiment(podium: Commands, at: list[str]) -> None:
    key = "demo-ranker"
    (found,) = podium.answer("experiment", "list", *at)["experiments"]
    assert found["key"] == key
    assert podium.answer("experiment", "report", key, *at)
    for change in ("pause", "start"):
        assert podium.answer("experiment", change, key, *at)
    assert podium.answer("experiment", "ramp", key, "--traffic-bp", "5000", *at)
    assert podium.answer("experiment", "decisions", key, *at)
    assert podium.answer("experiment", "force-token", key, "a", *at)["token"]
    for change in ("rollback", "start", "stop", "start"):
        assert podium.answer("experiment", change, key, *at)
    assert podium.answer("experiment", "promote", key, "--variant", "b", *at)


def _failures(podium: Commands) -> None:
    podium.answer("compile", "--bundle", "small", code=1)
    podium.answer("data", "fetch", "movielens-100k", "--out", "/dev/null/x", code=1)
    podium.answer("bench", "missing", code=1)
    podium.answer("demo-bundle", "--check", "--out", "missing", code=1)
    podium.answer("config", "explain", "--config", "missing.toml", code=2)


if __name__ == "__main__":
    main()
