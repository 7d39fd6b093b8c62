"""What deploy/ says, for tests: variables as a pod has them, rules as the operator wants them.

    python -m tests.support.manifests

writes the PrometheusRule anew after a change of deploy/prometheus/rules; a test holds them equal.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
K8S = DEPLOY / "k8s"
RULES = DEPLOY / "prometheus" / "rules"
PROMETHEUS_RULE = K8S / "components" / "prometheus-operator" / "prometheusrule.yaml"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

HEADER = """\
# deploy/prometheus/rules for the Prometheus operator, by `python -m tests.support.manifests`.
"""


def resources(text: str) -> list[dict[str, Any]]:
    """The documents of a file."""
    return [one for one in yaml.load_all(text, _LOADER) if one]


def prometheus_rule() -> dict[str, Any]:
    """All rule files as one resource."""
    files = sorted(RULES.glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "podium", "namespace": "podium"},
        "spec": {"groups": groups},
    }


def environment(entries: list[dict[str, Any]], secrets: Mapping[str, str]) -> dict[str, str]:
    """The variables of a container, as the kubelet expands them.

    Args:
        entries: `env` of the container.
        secrets: Values for ``secret/key``.
    """
    known: dict[str, str] = {}
    for entry in entries:
        if "value" in entry:
            value = re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], str(entry["value"]))
        elif "secretKeyRef" in entry["valueFrom"]:
            asked = entry["valueFrom"]["secretKeyRef"]
            value = secrets[f"{asked['name']}/{asked['key']}"]
        else:
            value = str(entry["valueFrom"]["fieldRef"]["fieldPath"])
        known[entry["name"]] = value
    return known


def main() -> None:
    text = yaml.safe_dump(prometheus_rule(), sort_keys=False, width=100, allow_unicode=True)
    PROMETHEUS_RULE.write_text(HEADER + text)


if __name__ == "__main__":
    main()
