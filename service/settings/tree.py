"""The settings tree: everything that can be turned, with units and meaning."""

import ipaddress
from typing import Annotated, Literal

from msgspec import Meta, Struct

# Every number has a finite upper bound far above what is sensible: TOML can say
# `inf` and `nan`, and a timer or a buffer of that size fails in the middle of a request.
Wait = Annotated[float, Meta(gt=0, le=3_600)]
"""Seconds that somebody waits for."""
Lifetime = Annotated[float, Meta(gt=0, le=31_536_000)]
"""Seconds that something is kept; at most a year."""
Fraction = Annotated[float, Meta(ge=0, le=1)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Threads = Annotated[int, Meta(ge=1, le=1_024)]

EngineName = Literal[
    "tensorrt", "onnxruntime-cuda", "openvino", "triton", "onnxruntime-cpu", "popularity"
]
CacheMode = Literal["off", "exact", "segment", "segment_rescore"]
Scope = Literal["rank", "events", "read", "admin"]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file; unknown keys are refused."""


class ServerSettings(Section, frozen=True, kw_only=True):
    """Where the service listens and what it takes in."""

    host: str = "127.0.0.1"
    """Loopback: whoever opens Podium to a network should set `auth.keys` as well."""
    port: Port = 8080
    """0 picks a free port and prints it."""
    workers: Annotated[int, Meta(ge=0, le=256)] = 0
    """Processes that serve; 0 picks as many as suit the machine and prints the number."""
    max_body_bytes: Annotated[int, Meta(ge=1, le=1_073_741_824)] = 1_048_576
    """Larger bodies are answered with 413; of `/v2/models/.../infer` this is for the JSON."""
    max_tensor_bytes: Annotated[int, Meta(ge=1, le=1_073_741_824)] = 16_777_216
    """The same for whole bodies of `/v2`, after they are uncompressed: JSON and binary tensors."""
    drain_notice_s: Annotated[float, Meta(ge=0, le=3_600)] = 0.0
    """How long SIGTERM goes on serving while `/health/ready` says 503: the time that balancers
    need to see it. Then the address is closed."""
    drain_timeout_s: Wait = 10.0
    """How long requests in flight may then take, and after them a batch that an engine scores."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""

    def __post_init__(self) -> None:
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"trusted_proxies: {error}") from None


class ApiKey(Section, frozen=True, kw_only=True):
    """A caller: the SHA-256 of its bearer key, in hex, and what it may do."""

    name: Annotated[str, Meta(min_length=1)]
    """Who calls, for logs."""
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """The key's digest, such as `printf %s "$KEY" | sha256sum` prints."""
    scopes: tuple[Scope, ...]
    """rank asks for slates, events reports impressions and clicks, read looks at experiments, and
    admin changes them, the cache and the models, and may force variants."""


class AuthSettings(Section, frozen=True, kw_only=True):
    """Without keys everyone may call, and only loopback may force a variant, not by a proxy."""

    keys: tuple[ApiKey, ...] = ()


class RedisSettings(Section, frozen=True, kw_only=True):
    """Where cache and events live. Without a URL Podium starts its own Valkey servers."""

    url: str | None = None
    """redis://, rediss:// (TLS) or unix:// of the cache server, and of events without `events_url`.
    redis+sentinel://host:port,host:port/service finds the master by Sentinel,
    redis+cluster://host:port,host:port is a Redis Cluster; rediss+sentinel:// and rediss+cluster://
    are these over TLS. User and password go before the first host; the user needs no more than
    `~podium:* -@all +get +mget +set +del +ping +select +info`, and in a cluster
    `+cluster|slots +asking`."""
    events_url: str | None = None
    """The event server: append-only, never evicting; no cluster."""
    client: Literal["auto", "lean", "redis-py"] = "auto"
    """What talks to the cache server. lean: all requests share one connection, at half the CPU
    time of redis-py or less; for one server without TLS. auto: lean where it can, else redis-py."""
    cluster: bool = False
    """Take `url` for a node of a Redis Cluster, as redis+cluster:// does."""
    connect_timeout_s: Wait = 0.05
    """Longest a new connection may take."""
    pool_size: Count = 32
    """Connections of redis-py to each cache server; a caller waits for one at most the cache
    timeout."""
    tls_ca: str | None = None
    """File of the certificates that vouch for servers of rediss:// URLs; else the system's."""
    tls_cert: str | None = None
    """File of the certificate that shows these servers who we are."""
    tls_key: str | None = None
    """File of its key, if that is not in the same file."""

    def __post_init__(self) -> None:
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key needs tls_cert, the certificate that it belongs to")
        urls = [url for url in (self.url, self.events_url) if url is not None]
        given = self.tls_ca is not None or self.tls_cert is not None
        if given and not any(url.startswith("rediss") for url in urls):
            raise ValueError("tls_ca and tls_cert are for rediss:// URLs, and there is none")
        if self.cluster and self.url is None:
            raise ValueError("cluster needs url, a node of it")


class CacheSettings(Section, frozen=True, kw_only=True):
    """The score cache. Its mode is an attribute of each deployment."""

    timeout_s: Wait = 0.02
    """Longest a request waits for Redis, and never more than half of the time it has left;
    then its scores are computed, and neither a hit nor a miss."""
    ttl_s: Lifetime = 300.0
    """How long scores are as good as computed. From then on they are stale: still given out, and
    computed anew behind the reply."""
    ttl_jitter: Fraction = 0.1
    """Each entry lives ttl_s times 1 - jitter to 1 + jitter, so they do not expire together."""
    hard_ttl_factor: Annotated[float, Meta(ge=1, le=1_000)] = 3.0
    """Stale scores are gone after so many times ttl_s; until then they are there for when engines
    fail. 1: nothing is ever given out stale."""
    refresh_beta: Annotated[float, Meta(ge=0, le=1_000)] = 1.0
    """How eagerly scores in demand are computed anew before they are stale; 0: not before."""
    first_level_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 32
    """Memory for what each worker itself keeps of the cache, in front of Redis, and as much again
    for score rows where a segment mode is used; 0: nothing."""
    first_level_ttl_s: Annotated[float, Meta(ge=0, le=3_600)] = 1.5
    """How long it gives that out without asking Redis; 0: never. Score rows, of which Redis has
    nothing newer, it gives out as long as they live."""
    max_memory_mb: Count = 256
    """Memory of the embedded cache server."""
    breaker_failures: Count = 5
    """Failures in a row, or lost connections within a second if that is a tenth of the lookups,
    after which Redis is left alone; and writes in a row that it refuses, after which none are
    sent."""
    breaker_probe_s: Wait = 1.0
    """Time between probes while it is left alone, give or take a quarter."""
    rows: Literal["auto", "always", "never"] = "auto"
    """Whether requests of the segment modes fetch score rows that this process does not hold from
    Redis. auto: while that costs less than to score them, as measured; never: only the background
    does, before it computes a row."""
    slates: Literal["auto", "always", "never"] = "auto"
    """Whether rank requests ask Redis for whole slates. auto: a worker that is busy asks only for
    what it was asked lately, and for kinds of requests (of a surface, by users with or without a
    name) that find enough for it to cost less than to score them, as measured. Item pages always
    ask."""


class BatchPolicy(Section, frozen=True, kw_only=True):
    """When waiting jobs become a batch. A row is one candidate to score."""

    mode: Literal["adaptive", "fixed"] = "adaptive"
    """adaptive: wait for company only where that pays, as learnt; fixed: always wait for it."""
    max_batch_rows: Count | None = None
    """Upper bound of one engine call. Without it: the engine's own optimum, measured when it is
    loaded. On a CPU a large batch leaves the core's cache and is slower per row."""
    preferred_batch_rows: Count | None = None
    """A batch this large leaves at once if an engine is free; at most max_batch_rows, without it
    that."""
    max_queue_delay_s: Annotated[float, Meta(ge=0, le=60)] = 0.005
    """Longest a job waits for company while an engine is free, from arrival."""
    max_waiting_rows: Count = 65_536
    """Beyond this the service answers 429 instead of queueing."""
    preserve_ordering: bool = False
    """Answer the jobs of one deployment in the order in which they arrived, even where a later one
    is scored first: by another instance, or for its priority."""
    instances: Threads | None = None
    """Batches scored at the same time, each by an engine of its own; above 1 needs threads.
    Without it: 1 on a CPU, 2 where a device, another process or another server scores. With
    `engine.process` shared: of each worker; that process has as many engines of a model, without
    it 2 on a device, and one per core on a CPU."""
    execution: Literal["auto", "inline", "thread"] = "auto"
    """inline scores on the event loop's thread (a hand-off costs more than a CPU batch of
    a small model); thread suits engines that wait for a device, and models whose batch takes more
    than a few milliseconds. auto: inline where only the CPU scores."""

    def __post_init__(self) -> None:
        if self.execution == "inline" and (self.instances or 1) > 1:
            raise ValueError('more than one instance needs execution = "thread"')
        largest, preferred = self.max_batch_rows, self.preferred_batch_rows
        if largest is not None and preferred is not None and preferred > largest:
            raise ValueError(
                f"preferred_batch_rows is {preferred}, which no batch reaches: "
                f"max_batch_rows is {largest}"
            )


class EngineSettings(Section, frozen=True, kw_only=True):
    """How engines use the machine."""

    threads: Threads = 1
    """Intra-op threads of one engine on the CPU."""
    process: Literal["own", "shared"] = "own"
    """own: every worker has its engines. shared: one process has the first engine of every
    deployment and all that need a GPU, and scores for all workers through shared memory; it may
    die and is restarted. Workers keep the other engines, or else a copy of the last one that needs
    no GPU, and score with those meanwhile. triton is a process of its own in any case. Rows reach
    that process gathered, so only the workers' own engines run the exact split: on a CPU `own` is
    faster."""
    calibrate: bool = True
    """Measure at load at which batch size an engine scores most rows a second, in about a
    second; without it a CPU's is taken for 400."""
    split: Literal["auto", "on", "off"] = "auto"
    """The exact split on ONNX Runtime: the item half of the first layers is computed for the whole
    catalogue at load. auto: where the bundle has it and its table fits `split_max_mb`."""
    split_max_mb: Count = 512
    """Memory that the item table of one bundle may take per worker."""
    max_execution_s: Wait = 2.0
    """An engine that takes longer for one batch hangs: its batch goes down the chain, and it is
    left alone. Engines that run inline cannot be watched."""
    breaker_failures: Count = 3
    """Failed calls in a row after which an engine is left alone."""
    breaker_rate: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Or this share of failed calls among its last 20."""
    breaker_probe_s: Wait = 1.0
    """Time between golden-row probes while it is left alone, give or take a quarter."""
    device: Annotated[int, Meta(ge=0, le=1_023)] = 0
    """Which GPU, by CUDA's number."""
    gpu_memory_fraction: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """Of the device's memory, for all loaded models together."""
    row_buckets: Annotated[tuple[Count, ...], Meta(min_length=1)] = (64, 128, 256, 512, 1024)
    """Batch sizes that TensorRT, ONNX Runtime on a GPU and OpenVINO run, rising; a batch is padded
    to the next one."""
    cuda_graphs: bool = True
    """Replay a captured graph per bucket in place of launching every kernel."""
    plan_directory: str | None = None
    """Compiled TensorRT plans; default `plans` in the state directory."""
    triton_url: Annotated[str, Meta(pattern=r"^[^/@\s]+:[0-9]{1,5}$")] | None = None
    """host:port of a Triton server's HTTP endpoint, for the engine `triton`. Its model is named
    <name>-<version>-<precision>, such as movielens-1c9fa2a1-fp16."""
    triton_key: Annotated[str, Meta(pattern=r"^[!-~]([ -~]{0,1022}[!-~])?$")] | None = None
    """API key for that server, sent as `Authorization: Bearer`: of another Podium, one with the
    scope `rank`. Better told by the environment than written here."""

    def __post_init__(self) -> None:
        rising = tuple(sorted(set(self.row_buckets)))
        if self.row_buckets != rising:
            raise ValueError(f"row_buckets must rise: write {list(rising)}")


class ModelSettings(Section, frozen=True, kw_only=True):
    """Where bundles are: <directory>/<name>/<version>/manifest.json."""

    directory: str | None = None
    """Without it: the demonstration bundle that ships with Podium."""


class DeploymentSettings(Section, frozen=True, kw_only=True):
    """What can serve a request: a model, its precision, engines, and cache mode."""

    model: Annotated[str, Meta(min_length=1)]
    """``name`` (the version that was activated, else the newest) or ``name@version``, for good."""
    precision: str = "fp32"
    """Which of the bundle's graphs, such as fp16; `podium bundle inspect` lists them."""
    engines: Annotated[tuple[EngineName, ...], Meta(min_length=1)] = ("onnxruntime-cpu",)
    """In order; a failed call is scored again by the next. "popularity" needs no engine."""
    cache: CacheMode = "exact"
    """exact: only identical requests share scores. segment: the score that the user's segment has
    for the item, cached for everybody. segment_rescore: candidates ordered by that, and the first
    `rescore_top` scored exactly; what the slate shows is exact."""
    rescore_top: Annotated[int, Meta(ge=1, le=1_000)] = 30
    """With segment_rescore: candidates of a request that are scored exactly, at least as many as
    its slate has. `podium cache evaluate` measures what that costs."""


class ExperimentSettings(Section, frozen=True, kw_only=True):
    """Where experiments are defined."""

    file: str | None = None
    """TOML, relative to the settings file."""
    judge_every_s: Wait = 5.0
    """Between two looks of the rule at the rollouts and their figures."""
    price_per_hour: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    """What an hour of one engine costs, in any currency, for the costs in reports: the price of
    the machine over how many engine calls it runs at a time. Without it costs are left out."""


class EventSettings(Section, frozen=True, kw_only=True):
    """Exposures, impressions and clicks."""

    token_ttl_s: Lifetime = 86_400.0
    """How long after the slate impressions and clicks are taken; also how long a repeated
    event_id is recognised."""
    attribution_window_s: Lifetime = 3_600.0
    """How long after the slate an impression or click must have happened, by its own timestamp,
    to count for a variant; later ones are kept and counted as late. What is left of
    token_ttl_s is for its delivery."""
    max_clicks_per_unit: Count = 1_000
    """Clicks of one unit that count in one phase of an experiment; further ones are counted as
    capped, so that nobody can click a variant up."""
    max_events: Count = 1000
    """Events in one call."""
    timeout_s: Wait = 1.0
    """Longest an append may take; after it the events go to the spool."""
    max_spool_mb: Count = 256
    """Events kept on disk while the event server is away; beyond it 503."""
    unit_ttl_s: Lifetime = 2_592_000.0
    """How long a unit is remembered as already counted in an experiment."""
    keys: dict[str, str] = {}
    """Token signing keys, key id to 32 bytes or more in hex. Without any, one is
    created in the state directory. Replicas must share them."""
    signing_key: str | None = None
    """The key id that signs; the others only verify. Needed with more than one key."""


class TelemetrySettings(Section, frozen=True, kw_only=True):
    """Logs, traces and metrics. Exporters and samplers follow the standard OTEL_* variables."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity of a log line."""
    sample_ratio: Fraction = 0.1
    """Share of traces started here that are recorded, unless OTEL_TRACES_SAMPLER says else. 1: all
    are sent, and a collector decides which to keep (deploy/otel/collector.yaml)."""
    context_ids: bool = False
    """Whether spans of experiments carry a digest of the user or session (feature_flag.context.id):
    finds one user's requests, and puts a pseudonym of every user into the traces."""
    triton_names: bool = False
    """Whether /metrics shows Triton's names (nv_inference_*, nv_gpu_*) as well, for dashboards and
    autoscalers that are written for them."""


class Settings(Section, frozen=True, kw_only=True):
    """Everything that can be turned, and nothing that is not read."""

    deployments: dict[str, DeploymentSettings]
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    batching: BatchPolicy = BatchPolicy()
    engine: EngineSettings = EngineSettings()
    models: ModelSettings = ModelSettings()
    surfaces: dict[str, str] = {}
    """Surface to deployment; ``default`` serves every other surface."""
    experiments: ExperimentSettings = ExperimentSettings()
    events: EventSettings = EventSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    state_directory: str | None = None
    """Embedded servers, signing key and spool; default $XDG_STATE_HOME/podium."""
    allow_degraded: bool = True
    """Answer with the popularity slate when no engine answers in time."""
