"""``make validate``: everything under deploy/ judged by the tools that will read it.

    python -m tests.validate BIN

BIN is the folder of the programs that deploy/locks/validate.txt installs. One line
per proof; 1 if anything is wrong. What a machine cannot have is passed by with the
reason: all that needs BIN where it could not be installed, Envoy where there is no
wheel, systemd's and Prometheus' tools where there is neither the program nor Debian.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from service.errors import StartupError
from service.settings import load_settings
from tests.support.custom_resources import (
    InferenceService,
    custom_resource,
    is_custom,
    pod_of,
)
from tests.support.debian_tools import debian_tool
from tests.support.manifests import DEPLOY, K8S, environment, resources

ROOT = DEPLOY.parent
OVERLAYS = tuple(sorted(path.name for path in (K8S / "overlays").iterdir()))
COMPONENTS = tuple(sorted(path.name for path in (K8S / "components").iterdir()))
LIMIT_S = 120.0
YAMLLINT = (
    "{extends: default, rules: {line-length: {max: 200}, document-start: disable, comments: "
    "{min-spaces-from-content: 1}, truthy: {check-keys: false}, braces: {max-spaces-inside: 0}, "
    "indentation: {indent-sequences: consistent}}}"
)
# Its expressions keep the line breaks of their source.
GENERATED = ("prometheusrule.yaml",)


class Wrong(Exception):
    """What a tool refused."""


class Missing(Exception):
    """A tool that this machine does not have."""


class Tools:
    """The programs of the validators' environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, program: str) -> bool:
        return (self.folder / program).exists()

    def run(self, program: str, *arguments: str | Path) -> str:
        """Both streams of a program.

        Raises:
            Missing: it is not installed, or not for this machine.
            Wrong: it ended with another code than 0.
        """
        self.need(program)
        return run(self.folder / program, *arguments)

    def need(self, program: str) -> None:
        if not self.has(program):
            raise Missing(f"{program} is not in {self.folder}")


def run(program: str | Path, *arguments: str | Path) -> str:
    name = Path(program).name
    try:
        done = subprocess.run(
            [str(program), *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except OSError as problem:
        raise Missing(f"{name} does not run here: {problem.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Wrong(f"{name}: no answer within {LIMIT_S:g} s") from None
    if done.returncode:
        raise Wrong(f"{name}: {done.stdout.strip()}")
    return done.stdout


def containers(tools: Tools) -> str:
    files = sorted((DEPLOY / "docker").glob("Dockerfile.*"))
    tools.run("hadolint", "--no-color", *files)
    return f"hadolint: {len(files)} Dockerfiles"


def compose(tools: Tools) -> str:
    files = sorted((DEPLOY / "compose").glob("compose*.yaml"))
    tools.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)
    return f"compose: {len(files)} files keep its specification"


def kubernetes(tools: Tools) -> str:
    """Base, every overlay, and the components that change it, strictly."""
    known = custom = 0
    with tempfile.TemporaryDirectory(prefix="podium-validate-") as folder:
        for name, text in rendered(tools, Path(folder)):
            own, others = judged(tools, Path(folder), name, text)
            known, custom = known + own, custom + others
    shapes = f"{custom} of operators by their shape"
    return f"kubernetes: {known} resources strictly by their schemas, {shapes}"


def rendered(tools: Tools, folder: Path) -> list[tuple[str, str]]:
    """What kustomize makes of each way of deployment."""
    ways = [("base", K8S / "base"), *((name, K8S / "overlays" / name) for name in OVERLAYS)]
    for component in COMPONENTS:
        way = folder / component
        way.mkdir()
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [relative(K8S / "base", way)],
            "components": [relative(K8S / "components" / component, way)],
        }
        (way / "kustomization.yaml").write_text(yaml.safe_dump(content))
        ways.append((f"base with {component}", way))
    made = [(name, tools.run("kubectl", "kustomize", way)) for name, way in ways]
    return [*made, ("examples", (K8S / "examples" / "kserve.yaml").read_text())]


def relative(path: Path, start: Path) -> str:
    """kustomize takes no absolute paths."""
    return os.path.relpath(path.resolve(), start.resolve())


def judged(tools: Tools, folder: Path, name: str, text: str) -> tuple[int, int]:
    """How many resources Kubernetes' schemas took, and how many the shapes here."""
    ours = resources(text)
    custom = [custom_resource(one) for one in ours if is_custom(one)]
    known = [one for one in ours if not is_custom(one)]
    known += [pod_of(one) for one in custom if isinstance(one, InferenceService)]
    for one in known:
        if mutable := re.findall(r"image: \S+:latest\b", yaml.safe_dump(one)):
            raise Wrong(f"{name}: {mutable[0]} may be another tomorrow")
    file = folder / "resources.yaml"
    file.write_text(yaml.safe_dump_all(known))
    try:
        tools.run("kubernetes-validate", "--strict", "--quiet", file)
    except Wrong as refusal:
        raise Wrong(f"{name}: {refusal}") from None
    return len(known), len(custom)


def envoy(tools: Tools) -> str:
    file = DEPLOY / "envoy" / "envoy.yaml"
    told = tools.run("envoy", "--mode", "validate", "--log-level", "warning", "--config-path", file)
    if "[warning]" in told:
        raise Wrong(f"envoy: {told.strip()}")
    return "envoy: takes its file without a warning"


def systemd(_: Tools) -> str:
    _on_path("systemd-analyze")
    unit = DEPLOY / "systemd" / "podium.service"
    with tempfile.TemporaryDirectory(prefix="podium-validate-") as folder:
        # It asks whether the program is there.
        there = Path(folder) / "podium.service"
        there.write_text(unit.read_text().replace("/opt/podium/bin/podium", "/bin/true"))
        if told := run("systemd-analyze", "verify", there).strip():
            raise Wrong(f"systemd-analyze: {told}")
    return "systemd: takes the unit without a word"


def secrets(tools: Tools) -> str:
    """The commands of deploy/README.md that make the secrets make what a pod can start with."""
    (block,) = re.findall(
        r"```sh\n(kubectl create namespace.*?)```", (DEPLOY / "README.md").read_text(), re.S
    )
    tools.need("kubectl")
    _on_path("bash", "openssl", "sha256sum", "cut")
    commands = re.sub(r"\\\n\s*", "", block).splitlines()
    create = [one for one in commands if " create secret " in one]
    script = "\n".join(f"{one} --dry-run=client --output yaml; echo ---" for one in create)
    environ = {**os.environ, "PATH": f"{tools.folder}:{os.environ['PATH']}", "KEY": "a-key"}
    done = subprocess.run(
        ["bash", "-ec", script],
        env=environ,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise Wrong(f"kubectl: {done.stderr.strip()}")
    values = {
        f"{one['metadata']['name']}/{key}": base64.b64decode(value).decode()
        for one in resources(done.stdout)
        for key, value in one["data"].items()
    }
    (deployment,) = resources((K8S / "base" / "deployment.yaml").read_text())
    (podium,) = deployment["spec"]["template"]["spec"]["containers"]
    environ = environment(podium["env"], values)
    settings = load_settings(K8S / "base" / "podium.toml", environ=environ).settings
    wanted = hashlib.sha256(b"a-key").hexdigest()
    if [key.sha256 for key in settings.auth.keys] != [wanted] or not settings.events.keys:
        raise Wrong(f"deploy/README.md: its secrets give {settings.auth}")
    return f"secrets: {len(create)} commands of the README make what base/podium.toml starts with"


def autoscaling(_: Tools) -> str:
    """The adapter's query, as the adapter fills it in, computed by Prometheus' own engine."""
    promtool = debian_tool("promtool", package="prometheus")
    if promtool is None:
        raise Missing("promtool is not to be had, see above")
    rules = yaml.safe_load((K8S / "prometheus-adapter" / "rules.yaml").read_text())["rules"]
    query = rules["custom"][0]["metricsQuery"]
    query = query.replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'namespace="podium"')
    scaled = yaml.safe_load((K8S / "components" / "keda" / "scaledobject.yaml").read_text())
    average = scaled["spec"]["triggers"][0]["metadata"]["query"]
    with tempfile.TemporaryDirectory(prefix="podium-validate-") as folder:
        test = Path(folder) / "test.yml"
        test.write_text(yaml.safe_dump({"tests": [_waiting_and_idle(query, average)]}))
        run(promtool, "test", "rules", test)
    return "autoscaling: both queries tell a pod whose jobs wait 9.5 ms from an idle one"


def _waiting_and_idle(query: str, keda: str) -> dict[str, Any]:
    """The adapter's query has a value for each pod, KEDA's the sum that it divides by them."""
    bucket = 'podium_queue_seconds_bucket{namespace="podium",pod="%s",le="%s"}'
    up = 'up{namespace="podium",pod="%s"}'
    series = [
        {"series": bucket % ("waits", "0.005"), "values": "0+0x20"},
        {"series": bucket % ("waits", "0.01"), "values": "0+60x20"},
        {"series": bucket % ("waits", "+Inf"), "values": "0+60x20"},
        {"series": up % "waits", "values": "1x20"},
        {"series": bucket % ("idle", "+Inf"), "values": "0x20"},
        {"series": up % "idle", "values": "1x20"},
    ]
    samples = [{"labels": '{pod="waits"}', "value": 0.0095}, {"labels": '{pod="idle"}', "value": 0}]
    total = [{"labels": "{}", "value": 0.0095}]
    asked = [
        {"expr": f"round({expression}, 0.0001)", "eval_time": "5m", "exp_samples": expected}
        for expression, expected in ((query, samples), (keda, total))
    ]
    return {"interval": "15s", "input_series": series, "promql_expr_test": asked}


def workflows(tools: Tools) -> str:
    folder = ROOT / ".github" / "workflows"
    files = sorted(folder.glob("*.y*ml"))
    tools.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    tools.run("zizmor", "--offline", "--no-progress", "--persona", "pedantic", *files)
    return f"workflows: {len(files)} by GitHub's schema, and zizmor finds nothing"


def yaml_files(tools: Tools) -> str:
    folders = [DEPLOY / name for name in ("compose", "envoy", "k8s")] + [ROOT / ".github"]
    found = [file for folder in folders for file in folder.rglob("*.y*ml")]
    files = [file for file in found if file.name not in GENERATED]
    tools.run("yamllint", "--strict", "--config-data", YAMLLINT, *files)
    return f"yaml: {len(files)} files without a doubt"


CHECKS: tuple[Callable[[Tools], str], ...] = (
    yaml_files,
    containers,
    compose,
    kubernetes,
    secrets,
    autoscaling,
    envoy,
    systemd,
    workflows,
)


def _on_path(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise Missing(f"{program} is not on the PATH")


def main(folder: str) -> int:
    tools = Tools(Path(folder).absolute())
    is_wrong = False
    for check in CHECKS:
        try:
            told = check(tools)
        except Missing as tool:
            told = f"{check.__name__}: not checked, {tool}"
        except (Wrong, ValueError, StartupError) as refusal:
            sys.stderr.write(f"{check.__name__}: {refusal}\n")
            is_wrong = True
            continue
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
