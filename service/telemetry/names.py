"""Every name that leaves Podium in a span, a metric or a log line.

OpenTelemetry semantic conventions where one exists (HTTP, database, feature
flag, error), ``podium`` elsewhere. Names are public: dashboards, alerts and
tail-sampling rules are written against them.
"""

from typing import Final, Literal

SERVICE: Final = "podium"
NONE: Final = "none"
"""Label value of what did not happen or is not known."""
OTHER: Final = "other"
"""Label value of what a caller named but nobody configured."""
UNMATCHED: Final = "unmatched"
"""Route label of a path that no handler serves."""

Condition = Literal["ready", "out"]
"""How an engine or a store is: in use, or failing."""
CONDITION_VALUES: Final[dict[Condition, float]] = {"ready": 1.0, "out": 0.0}

Outcome = Literal[
    "ok", "degraded", "invalid", "refused", "expired", "unavailable", "cancelled", "error"
]
"""How a ranking ended: a slate, a degraded slate, 4xx, 429, 504, 503, the caller left, 500."""

FallbackReason = Literal[
    "loading", "refused", "left_alone", "hung", "failed", "memory", "invalid_scores"
]
"""Why the first engine of a chain did not score a batch, or not all of it."""

DropReason = Literal["queue_full", "export_failed", "shutdown"]
"""Why a finished span never reached the collector."""

# --- spans -------------------------------------------------------------------
SPAN_DECODE: Final = "podium.decode"
SPAN_ROUTE: Final = "podium.route"
SPAN_QUEUE: Final = "podium.queue"
SPAN_SCORE: Final = "podium.score"
SPAN_BATCH: Final = "podium.batch"
SPAN_ENGINE: Final = "podium.engine"

MAX_BATCH_LINKS: Final = 32
"""A batch span with more links costs more than the batch itself."""

# --- span attributes: conventions ----------------------------------------------
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
PROTOCOL_VERSION: Final = "network.protocol.version"
ERROR_TYPE: Final = "error.type"

EVENT_EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
DB_NAMESPACE: Final = "db.namespace"

EVENT_FLAG: Final = "feature_flag.evaluation"
FLAG_KEY: Final = "feature_flag.key"
FLAG_VARIANT: Final = "feature_flag.result.variant"
FLAG_REASON: Final = "feature_flag.result.reason"
FLAG_VERSION: Final = "feature_flag.version"
FLAG_PROVIDER: Final = "feature_flag.provider.name"
FLAG_SET: Final = "feature_flag.set.id"
FLAG_CONTEXT: Final = "feature_flag.context.id"

# --- span attributes: our own ----------------------------------------------------
ERROR_CODE: Final = "podium.error.code"
SURFACE: Final = "podium.surface"
CANDIDATES: Final = "podium.candidates"
CACHE_RESULT: Final = "podium.cache.result"
CACHE_LEVEL: Final = "podium.cache.level"
CACHE_AGE_MS: Final = "podium.cache.age_ms"
MODEL: Final = "podium.model"
ENGINE: Final = "podium.engine"
PRECISION: Final = "podium.precision"
DEGRADED: Final = "podium.degraded"
ROWS: Final = "podium.rows"
DEADLINE_LEFT_MS: Final = "podium.deadline_left_ms"
BATCH_ROWS: Final = "podium.batch.rows"
BATCH_JOBS: Final = "podium.batch.jobs"
BATCH_REASON: Final = "podium.batch.reason"
BATCH_INDEX: Final = "podium.batch.index"
BATCH_WAITING_ROWS: Final = "podium.batch.waiting_rows"
BATCH_OLDEST_WAIT_MS: Final = "podium.batch.oldest_wait_ms"
BATCH_EXECUTING: Final = "podium.batch.executing"
BATCH_DUPLICATE_ROWS: Final = "podium.batch.duplicate_rows"
BATCH_ARRIVAL_ROWS_PER_S: Final = "podium.batch.arrival_rows_per_s"
BATCH_FIXED_MS: Final = "podium.batch.fixed_ms"
BATCH_ROW_US: Final = "podium.batch.row_us"
BATCH_LINKS_DROPPED: Final = "podium.batch.links_dropped"

# --- metrics (counters get the suffix _total) -------------------------------------
M_HTTP_DURATION: Final = "http_server_request_duration_seconds"
M_HTTP_ACTIVE: Final = "http_server_active_requests"
M_DB_DURATION: Final = "db_client_operation_duration_seconds"
M_REQUESTS: Final = "podium_requests"
M_REQUEST_SECONDS: Final = "podium_request_seconds"
M_INFLIGHT: Final = "podium_inflight"
M_ROWS_SCORED: Final = "podium_rows_scored"
M_BATCHES: Final = "podium_batches"
M_BATCH_ROWS: Final = "podium_batch_rows"
M_BATCH_REASON: Final = "podium_batch_reason"
M_QUEUE_SECONDS: Final = "podium_queue_seconds"
M_QUEUE_DEPTH_ROWS: Final = "podium_queue_depth_rows"
M_ENGINE_SECONDS: Final = "podium_engine_seconds"
M_ENGINE_FAILURES: Final = "podium_engine_failures"
M_ENGINE_STATE: Final = "podium_engine_state"
M_ENGINE_STATUS: Final = "podium_engine_status"
M_FALLBACKS: Final = "podium_fallbacks"
M_MODEL_INFO: Final = "podium_model_info"
M_CACHE: Final = "podium_cache"
M_CACHE_CANDIDATES: Final = "podium_cache_candidates"
M_CACHE_SECONDS: Final = "podium_cache_seconds"
M_CACHE_FAILURES: Final = "podium_cache_failures"
M_CACHE_FOUND: Final = "podium_cache_found"
M_CACHE_AGE_SECONDS: Final = "podium_cache_age_seconds"
M_CACHE_RENEWALS: Final = "podium_cache_renewals"
M_CACHE_PROCESS_BYTES: Final = "podium_cache_process_bytes"
M_CACHE_PROCESS_ENTRIES: Final = "podium_cache_process_entries"
M_CACHE_ROWS: Final = "podium_cache_rows"
M_CACHE_ROW_LOOKUP_SECONDS: Final = "podium_cache_row_lookup_seconds"
M_CACHE_ROW_SCORING_SECONDS: Final = "podium_cache_row_scoring_seconds"
M_CACHE_ROWS_FETCHED: Final = "podium_cache_rows_fetched"
M_STORE_STATE: Final = "podium_store_state"
M_EXPOSURES: Final = "podium_exposures"
M_SHADOW: Final = "podium_shadow"
M_SHADOW_OVERLAP: Final = "podium_shadow_overlap"
M_SHADOW_TAU: Final = "podium_shadow_kendall_tau"
M_SHADOW_DRIFT: Final = "podium_shadow_score_drift"
M_EXTERNAL_IGNORED: Final = "podium_external_ignored"
M_EVENTS: Final = "podium_events"
M_EVENTS_KEPT: Final = "podium_events_kept"
M_EVENTS_SPOOLED: Final = "podium_events_spooled"
M_SPOOL: Final = "podium_spool"
M_AGGREGATION: Final = "podium_aggregation"
M_EXPOSURES_KEPT: Final = "podium_exposures_kept"
M_DEGRADED: Final = "podium_degraded"
M_SHED: Final = "podium_shed"
M_DEADLINE_EXCEEDED: Final = "podium_deadline_exceeded"
M_HANDED_OVER: Final = "podium_handed_over"
M_WORKERS: Final = "podium_workers"
M_WORKER_RESTARTS: Final = "podium_worker_restarts"
M_TELEMETRY_DROPPED: Final = "podium_telemetry_dropped"
