"""Shapes of the resources that Kubernetes itself does not know, as far as deploy/k8s uses them.

Their schemas come with the operators and are not to be had offline. These types
know only the fields that our manifests have: another one is refused, so that a
misspelt field is found, and whoever uses a new one looks it up first. Sources:
monitoring.coreos.com/v1, keda.sh/v1alpha1, serving.kserve.io/v1beta1, their API references.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Duration = Annotated[str, Meta(pattern=r"^\d+(ms|s|m|h|d)$")]
Expression = Annotated[str, Meta(min_length=1)]


class Known(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """No field but these."""


class Metadata(Known):
    name: str
    namespace: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Endpoint(Known):
    port: str
    path: str
    interval: Duration
    scrape_timeout: Duration


class Selector(Known):
    match_labels: dict[str, str]


class ServiceMonitorSpec(Known):
    selector: Selector
    endpoints: Annotated[list[Endpoint], Meta(min_length=1)]
    job_label: str


class ServiceMonitor(Known):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: Metadata
    spec: ServiceMonitorSpec


class Rule(Struct, forbid_unknown_fields=True, kw_only=True):
    """Prometheus' own names, which have underscores."""

    expr: Expression
    record: str | None = None
    alert: str | None = None
    for_: Duration | None = msgspec.field(default=None, name="for")
    keep_firing_for: Duration | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    def __post_init__(self) -> None:
        if (self.record is None) == (self.alert is None):
            raise ValueError("a rule records or alerts")


class RuleGroup(Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    rules: Annotated[list[Rule], Meta(min_length=1)]
    interval: Duration | None = None
    limit: int | None = None
    labels: dict[str, str] = {}


class PrometheusRuleSpec(Known):
    groups: Annotated[list[RuleGroup], Meta(min_length=1)]


class PrometheusRule(Known):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PrometheusRule"]
    metadata: Metadata
    spec: PrometheusRuleSpec


class ScaleTarget(Known):
    api_version: str
    kind: str
    name: str


class Trigger(Known):
    type: Literal["prometheus", "cpu"]
    metric_type: Literal["AverageValue", "Value", "Utilization"]
    metadata: dict[str, str]
    """Always strings: a number is refused by KEDA."""


class ScalePolicy(Known):
    type: Literal["Percent", "Pods"]
    value: int
    period_seconds: int


class ScalingRules(Known):
    stabilization_window_seconds: Annotated[int, Meta(ge=0, le=3_600)]
    policies: list[ScalePolicy] = []


class Behavior(Known):
    scale_up: ScalingRules
    scale_down: ScalingRules


class AutoscalerConfig(Known):
    behavior: Behavior


class Advanced(Known):
    horizontal_pod_autoscaler_config: AutoscalerConfig


class Fallback(Known):
    failure_threshold: int
    replicas: int
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher"]


class ScaledObjectSpec(Known):
    scale_target_ref: ScaleTarget
    min_replica_count: Annotated[int, Meta(ge=1)]
    max_replica_count: int
    polling_interval: int
    cooldown_period: int
    fallback: Fallback
    advanced: Advanced
    triggers: Annotated[list[Trigger], Meta(min_length=1)]


class ScaledObject(Known):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


class Predictor(Known):
    min_replicas: Annotated[int, Meta(ge=1)]
    max_replicas: int
    scale_metric: Literal["cpu", "memory", "concurrency", "rps"]
    scale_target: int
    containers: list[dict[str, Any]]
    """As in a pod: `pod_of` lets Kubernetes' own schema judge it."""
    volumes: list[dict[str, Any]]


class InferenceServiceSpec(Known):
    predictor: Predictor


class InferenceService(Known):
    api_version: Literal["serving.kserve.io/v1beta1"]
    kind: Literal["InferenceService"]
    metadata: Metadata
    spec: InferenceServiceSpec


CustomResource = ServiceMonitor | PrometheusRule | ScaledObject | InferenceService
_TYPES: dict[str, type[CustomResource]] = {
    one.__name__: one for one in (ServiceMonitor, PrometheusRule, ScaledObject, InferenceService)
}


def is_custom(resource: dict[str, Any]) -> bool:
    """Whether a resource belongs to an operator, and so has no schema in Kubernetes."""
    group = str(resource["apiVersion"]).partition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def custom_resource(resource: dict[str, Any]) -> CustomResource:
    """Read a resource by its type here.

    Raises:
        ValueError: it has no type here, or is not of that shape.
    """
    kind = str(resource["kind"])
    if kind not in _TYPES:
        raise ValueError(f"{kind}: no shape is known for it, add one to {__name__}")
    try:
        return msgspec.convert(resource, _TYPES[kind])
    except msgspec.ValidationError as error:
        raise ValueError(f"{kind} {resource['metadata']['name']}: {error}") from None


def pod_of(service: InferenceService) -> dict[str, Any]:
    """The pod that KServe makes of an inference service."""
    predictor = service.spec.predictor
    metadata = {"name": service.metadata.name}
    spec = {"containers": predictor.containers, "volumes": predictor.volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
