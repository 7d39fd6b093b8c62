"""What deploy/ says holds in Podium: settings that it accepts, limits that leave it time to end."""

import json
import re
from functools import cache

import pytest
import yaml

from service.serving.several import longest_end_s
from service.settings import load_settings
from service.telemetry import names
from tests.support.container_image import excluded_from_context, stages
from tests.support.manifests import (
    DEPLOY,
    K8S,
    PROMETHEUS_RULE,
    environment,
    prometheus_rule,
    resources,
)

SETTINGS = sorted([*K8S.rglob("podium.toml"), *DEPLOY.rglob("docker/*.toml")])
DOCKERFILES = sorted((DEPLOY / "docker").glob("Dockerfile.*"))
SECRETS = {
    "podium-valkey/password": "p",
    "podium-keys/events": json.dumps({"k1": "ab" * 32}),
    "podium-keys/auth": json.dumps([{"name": "m", "sha256": "0" * 64, "scopes": ["rank"]}]),
}


@cache
def manifests(folder):
    files = (file.read_text() for file in sorted(folder.glob("*.yaml")))
    found = [one for text in files for one in resources(text)]
    # Patches by path are lists, and kustomizations have no name.
    return {(one["kind"], one["metadata"]["name"]): one for one in found if "metadata" in one}


def named(folder, kind, name):
    return manifests(folder)[kind, name]


def container(folder=K8S / "base"):
    return named(folder, "Deployment", "podium")["spec"]["template"]["spec"]["containers"][0]


def service(file, name):
    return yaml.safe_load((DEPLOY / "compose" / file).read_text())["services"][name]


def end_s(settings):
    """The longest that a service may take from SIGTERM to its end."""
    return settings.server.drain_notice_s + longest_end_s(settings.server)


@pytest.mark.parametrize("file", SETTINGS, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_every_settings_file_is_taken_by_the_service_itself(file):
    settings = load_settings(file, environ=environment(container()["env"], SECRETS)).settings

    assert settings.redis.url == "redis://:p@valkey-cache:6379/0"
    assert settings.redis.events_url == "redis://:p@valkey-events:6379/0"
    assert settings.events.keys
    assert settings.auth.keys


@pytest.mark.parametrize("component", ["bundles", "valkey-cluster"])
def test_the_variables_of_components_are_settings(component):
    variables = [*container()["env"], *container(K8S / "components" / component)["env"]]

    environ = environment(variables, SECRETS)
    settings = load_settings(K8S / "base" / "podium.toml", environ=environ).settings

    assert (settings.models.directory == "/bundles") == (component == "bundles")
    assert str(settings.redis.url).startswith("redis+cluster://") == (component == "valkey-cluster")


def test_a_pod_has_time_to_end():
    pod = named(K8S / "base", "Deployment", "podium")["spec"]["template"]["spec"]
    sleep_s = container()["lifecycle"]["preStop"]["sleep"]["seconds"]

    for file in K8S.rglob("podium.toml"):
        ends_s = end_s(load_settings(file, environ={}).settings)
        assert sleep_s + ends_s < pod["terminationGracePeriodSeconds"], file


def test_so_have_compose_and_systemd():
    podium = service("compose.yaml", "podium")
    demonstration = DEPLOY.parent / "service" / "demo" / "podium.toml"
    observed = service("compose.obs.yaml", "podium")["environment"]
    environ = podium["environment"] | observed
    composed = load_settings(demonstration, environ=environ).settings
    unit = (DEPLOY / "systemd" / "podium.service").read_text()
    default = load_settings(demonstration, environ={}).settings

    assert end_s(composed) < float(podium["stop_grace_period"].removesuffix("s"))
    assert end_s(default) < float(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.M)[0])


def test_a_warm_replica_is_always_left():
    autoscaler = named(K8S / "base", "HorizontalPodAutoscaler", "podium")["spec"]
    scaled = named(K8S / "components" / "keda", "ScaledObject", "podium")["spec"]
    budget = named(K8S / "base", "PodDisruptionBudget", "podium")["spec"]
    rolling = named(K8S / "base", "Deployment", "podium")["spec"]["strategy"]["rollingUpdate"]

    assert (autoscaler["minReplicas"], scaled["minReplicaCount"]) == (2, 2)
    assert (budget["maxUnavailable"], rolling["maxUnavailable"]) == (1, 0)


def test_replicas_are_counted_by_a_metric_that_there_is():
    adapter = yaml.safe_load((K8S / "prometheus-adapter" / "rules.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    autoscaler = named(K8S / "base", "HorizontalPodAutoscaler", "podium")["spec"]
    pods = next(one["pods"] for one in autoscaler["metrics"] if one["type"] == "Pods")
    scaled = named(K8S / "components" / "keda", "ScaledObject", "podium")["spec"]

    assert pods["metric"]["name"] == rule["name"]["as"]
    for query in (rule["metricsQuery"], scaled["triggers"][0]["metadata"]["query"]):
        assert f"{names.M_QUEUE_SECONDS}_bucket" in query


def test_without_its_metric_keda_scales_nothing_down():
    """Its fallback counts for averages alone, and by itself it knows no lower bound but its own."""
    scaled = named(K8S / "components" / "keda", "ScaledObject", "podium")["spec"]
    types = {one["type"]: one["metricType"] for one in scaled["triggers"]}

    assert types == {"prometheus": "AverageValue", "cpu": "Utilization"}
    assert scaled["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_plans_are_kept_on_the_volume_that_is_there_for_them():
    """The image has a place of its own, and variables go before the settings file."""
    _, image = stages(DEPLOY / "docker" / "Dockerfile.gpu")
    own = " ".join(step.text for step in image if step.word == "ENV").replace("$PATH", "")
    pod = container(K8S / "overlays" / "gpu")
    environ = dict(pair.split("=", 1) for pair in own.split())
    environ |= environment([*container()["env"], *pod["env"]], SECRETS)

    settings = load_settings(K8S / "overlays" / "gpu" / "podium.toml", environ=environ).settings
    places = {mount["name"]: mount["mountPath"] for mount in pod["volumeMounts"]}

    assert settings.engine.plan_directory == places["plans"]


def test_a_rollout_needs_no_gpu_more_than_there_are():
    for folder, name in (("gpu", "podium"), ("triton", "triton")):
        deployment = named(K8S / "overlays" / folder, "Deployment", name)["spec"]
        assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_who_forms_the_cluster_is_let_in_and_is_none_of_its_nodes():
    folder = K8S / "components" / "valkey-cluster"
    job = named(folder, "Job", "valkey-cluster-create")["spec"]["template"]["metadata"]["labels"]
    patches = yaml.safe_load((folder / "networkpolicy.yaml").read_text())
    ingress = next(one["value"] for one in patches if one["path"].startswith("/spec/ingress"))
    let_in = [one["podSelector"]["matchLabels"] for one in ingress["from"]]
    nodes = named(folder, "StatefulSet", "valkey-cluster")["spec"]["selector"]["matchLabels"]
    budget = named(folder, "PodDisruptionBudget", "valkey-cluster")["spec"]["selector"]

    assert nodes in let_in
    assert job in let_in
    assert job != nodes
    assert budget["matchLabels"] == nodes


def test_the_operator_gets_the_rules_that_prometheus_gets():
    written = yaml.safe_load(PROMETHEUS_RULE.read_text())

    assert written == prometheus_rule(), "run python -m tests.support.manifests"


def test_every_file_that_compose_mounts_is_there():
    for file in ("compose.yaml", "compose.obs.yaml"):
        services = yaml.safe_load((DEPLOY / "compose" / file).read_text())["services"]
        mounted = [one for each in services.values() for one in each.get("volumes", ())]
        for path in (one.partition(":")[0] for one in mounted):
            assert not path.startswith("..") or (DEPLOY / "compose" / path).exists(), path


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_holds_what_it_runs_and_runs_as_nobody_in_particular(dockerfile):
    build, image = stages(dockerfile)
    copied = [step.text.split()[:-1] for step in [*build, *image] if step.word == "COPY"]
    sources = [one for each in copied for one in each if not one.startswith(("--from", "/opt"))]
    words = {step.word: step.text for step in image}

    assert sources
    for source in sources:
        assert (DEPLOY.parent / source).exists(), source
        assert not excluded_from_context(source), source
    assert words["USER"] == "10001:10001"
    assert json.loads(words["ENTRYPOINT"]) == ["podium"]
    assert json.loads(words["HEALTHCHECK"].partition("CMD ")[2]) == ["podium", "doctor", "--ready"]
    installs = [text for text in copied_requirements(build) if "image-build" not in text]
    assert installs == [f"deploy/locks/{dockerfile.suffix[1:]}.txt"]


def copied_requirements(build):
    """The locks that are installed, each with its hashes or not at all."""
    runs = [step.text for step in build if step.word == "RUN"]
    locked = [run for run in runs if "--requirement" in run]
    assert all("--require-hashes" in run for run in locked)
    return [re.findall(r"--requirement (\S+)", run)[0] for run in locked]


@pytest.mark.parametrize("file", ["README.md", "service/app.py", "deploy/locks/cpu.txt"])
def test_the_build_context_holds_what_an_image_is_made_of(file):
    assert not excluded_from_context(file)


@pytest.mark.parametrize(
    "file", [".git/config", "tests/validate.py", "deploy/k8s/base/hpa.yaml", ".venv/bin/python"]
)
def test_and_nothing_else(file):
    assert excluded_from_context(file)
