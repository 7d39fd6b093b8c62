"""From CPU times and assumptions to machines and money. Pure.

A need is divided by the planned utilisation, rounded up to whole machines, and then made to
survive the loss of a zone. GPUs take rows from the CPUs and leave them the features and copies.
"""

import math
from collections.abc import Iterable

from service.profiling.capacity.values import (
    Assumptions,
    Capacity,
    Load,
    Measured,
    Plan,
    Scoring,
)

SHARES: tuple[tuple[Scoring, float], ...] = (("CPUs", 0.0), ("half on GPUs", 0.5), ("GPUs", 1.0))
"""Of the rows, how many GPUs score."""
HOURS_A_MONTH = 730
MONTHS = 36
REQUEST_BYTES, BYTES_A_CANDIDATE = 145 + 250, 9
"""JSON of the demonstration's requests, and HTTP headers."""
REPLY_BYTES, BYTES_AN_ITEM = 650 + 150, 58
GIB = 2**30
CACHE_SERVER_CORES = 1
EVENT_SERVER_CORES = 2
EVENT_SERVER_GIB = 8.0


def size(measured: Measured, assumed: Assumptions, loads: Iterable[float]) -> Capacity:
    """What each load needs.

    Args:
        measured: CPU times.
        assumed: All the rest.
        loads: Rankings a second, each above 0.
    """
    core_price = _replica_price(assumed) / assumed.cores
    return Capacity(
        measured=measured,
        assumptions=assumed,
        replica_rankings_per_s=assumed.cores
        * assumed.utilisation
        * 1e6
        / _cpu_us(measured, assumed, gpu_share=0.0),
        gpu_rows_per_s=_gpu_rows_per_s(measured, assumed),
        gpu_pays_from_cores=(
            assumed.gpu_price / (core_price * (1 - _left(assumed)))
            if core_price and _left(assumed) < 1
            else None
        ),
        loads=tuple(_load(measured, assumed, per_s) for per_s in loads),
    )


def redundant(need: float, zones: int) -> int:
    """Whole machines, so that enough are left when a zone, or one of the only zone, is lost."""
    alone = max(1, math.ceil(need))
    if zones == 1:
        return alone + 1
    return math.ceil(alone / (zones - 1)) * zones


def _load(measured: Measured, assumed: Assumptions, per_s: float) -> Load:
    miss = 1 - assumed.hit_rate
    operations = per_s * (1 + miss)  # what was not there is written
    cache_gib = assumed.slates * assumed.slate_bytes / GIB
    cache_servers = 2 * max(
        1,
        math.ceil(cache_gib / assumed.cache_server_gib),
        math.ceil(operations / (assumed.cache_operations_per_s * assumed.utilisation)),
    )
    events = per_s * assumed.experiment_share * (1 + assumed.events_per_ranking)
    installations = max(
        1, math.ceil(events / (assumed.installation_events_per_s * assumed.utilisation))
    )
    # An installation has at least one pair of cache servers of its own.
    cache_servers = max(cache_servers, 2 * installations)
    stores = _stores_price(assumed, cache_servers, cache_gib, installations)
    bytes_a_ranking = (
        REQUEST_BYTES
        + BYTES_A_CANDIDATE * assumed.candidates
        + REPLY_BYTES
        + BYTES_AN_ITEM * assumed.slate
    )
    return Load(
        rankings_per_s=per_s,
        predictions_per_s=per_s * assumed.candidates,
        rows_per_s=per_s * assumed.candidates * miss,
        cache_operations_per_s=operations,
        cache_gib=cache_gib,
        cache_servers=cache_servers,
        events_per_s=events,
        installations=installations,
        network_mbit_per_s=per_s * bytes_a_ranking * 8 / 1e6,
        plans=tuple(
            _plan(measured, assumed, per_s, name, share, stores, installations)
            for name, share in SHARES
        ),
    )


def _plan(
    measured: Measured,
    assumed: Assumptions,
    per_s: float,
    name: Scoring,
    gpu_share: float,
    stores_price: float,
    installations: int,
) -> Plan:
    cpu_us = _cpu_us(measured, assumed, gpu_share=gpu_share)
    busy_cores = per_s * cpu_us / 1e6
    replicas = redundant(busy_cores / (assumed.cores * assumed.utilisation), assumed.zones)
    replicas = max(replicas, installations * redundant(1, assumed.zones))
    gpus = 0
    if gpu_share:
        rows = per_s * assumed.candidates * (1 - assumed.hit_rate) * gpu_share
        needed = rows / _gpu_rows_per_s(measured, assumed)
        gpus = redundant(needed / assumed.utilisation, assumed.zones)
    hourly = replicas * _replica_price(assumed) + gpus * assumed.gpu_price + stores_price
    per_million = hourly / 3600 / per_s * 1e6
    return Plan(
        scoring=name,
        ranking_cpu_us=cpu_us,
        replicas=replicas,
        gpus=gpus,
        price_per_hour=hourly,
        price_per_month=hourly * HOURS_A_MONTH,
        price_three_years=hourly * HOURS_A_MONTH * MONTHS,
        per_million_rankings=per_million,
        per_million_predictions=per_million / assumed.candidates,
    )


def _cpu_us(measured: Measured, assumed: Assumptions, *, gpu_share: float) -> float:
    """CPU time of a ranking in the mean."""
    rows = assumed.candidates * (1 - assumed.hit_rate)
    on_cpu = (1 - gpu_share) + gpu_share * _left(assumed)
    events = assumed.experiment_share * assumed.events_per_ranking
    return (
        measured.ranking_cpu_us
        + rows * _row_us(measured, assumed) * on_cpu
        + events * assumed.event_cpu_us
    )


def _row_us(measured: Measured, assumed: Assumptions) -> float:
    return measured.row_cpu_us * assumed.heavier


def _left(assumed: Assumptions) -> float:
    """Share of a row's CPU time that stays on the CPU: features cost the same for a heavy model."""
    return min(1.0, assumed.gpu_left / assumed.heavier)


def _gpu_rows_per_s(measured: Measured, assumed: Assumptions) -> float:
    if measured.gpu_rows_per_s is not None:
        return measured.gpu_rows_per_s / assumed.heavier
    return assumed.gpu_cores * 1e6 / _row_us(measured, assumed)


def _replica_price(assumed: Assumptions) -> float:
    return assumed.cores * assumed.core_price + assumed.replica_gib * assumed.gib_price


def _stores_price(
    assumed: Assumptions, cache_servers: int, cache_gib: float, installations: int
) -> float:
    """Cache servers with what they keep and half as much again, and two event servers each."""
    cache = cache_servers * CACHE_SERVER_CORES * assumed.core_price
    kept = 2 * 1.5 * cache_gib * assumed.gib_price
    event_server = EVENT_SERVER_CORES * assumed.core_price + EVENT_SERVER_GIB * assumed.gib_price
    return cache + kept + 2 * installations * event_server
