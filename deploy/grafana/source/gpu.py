"""How busy, full and hot the GPUs are, as NVML tells it."""

from expressions import Query, of, ratio
from grafana_foundation_sdk.models.dashboard import Dashboard
from layout import Section, board, choice
from panels import Panel, below, figure, lines

KINDS = 'kind!="total"'
GPU = 'gpu=~"$gpu"'
BY = "instance, gpu"
LEGEND = "{{instance}} GPU {{gpu}}"


def gpu() -> Dashboard:
    return board(
        "podium-gpu",
        "Podium / GPU",
        "GPUs of the chosen instances; empty where there are none. Whether the multiprocessors are "
        "kept busy is not known to NVML: that is DCGM's exporter's to tell "
        "(DCGM_FI_PROF_SM_OCCUPANCY).",
        (
            Section("Now", _now()),
            Section("Load and memory", _load()),
            Section("Power and health", _power()),
        ),
        choice("gpu", "GPU", 'label_values(podium_gpu_info{job="$job"}, gpu)'),
    )


def _each(metric: str, *matchers: str) -> str:
    return f"max by ({BY}) ({of(metric, GPU, *matchers)})"


def _held(metric: str) -> str:
    """Of whoever keeps an account: a process, and the device that it uses."""
    return f"max by (instance, holder) ({of(metric)})"


def _memory_share() -> str:
    used, whole = (
        f"max by ({BY}) ({of('podium_gpu_memory_bytes', GPU, matcher)})"
        for matcher in ('kind="used"', 'kind="total"')
    )
    return ratio(used, whole)


def _now() -> tuple[Panel, ...]:
    return (
        figure(
            "GPUs",
            "Of the chosen instances.",
            "none",
            Query(f"count({of('podium_gpu_info', GPU)})", "GPUs"),
            width=6,
        ),
        figure(
            "Memory in use",
            "The fullest GPU. The alert watches podium:target:gpu_memory, 80 %.",
            "percentunit",
            Query(f"max({_memory_share()})", "memory"),
            levels=below(0.7, 0.8),
            decimals=0,
            width=6,
        ),
        figure(
            "Hottest",
            "Temperature of the hottest chip.",
            "celsius",
            Query(f"max({_each('podium_gpu_temperature_celsius')})", "temperature"),
            levels=below(75, 85),
            width=6,
        ),
        figure(
            "Power",
            "Of all chosen GPUs.",
            "watt",
            Query(f"sum({_each('podium_gpu_power_watts')})", "power"),
            width=6,
        ),
    )


def _load() -> tuple[Panel, ...]:
    return (
        lines(
            "Utilisation",
            "Share of the time in which any kernel ran. 100 % does not mean that no more fits.",
            "percentunit",
            Query(_each("podium_gpu_utilization"), LEGEND),
            most=1,
        ),
        lines(
            "Memory in use",
            "Whoever uses it, of what the device has.",
            "percentunit",
            Query(_memory_share(), LEGEND),
            levels=below(0.7, 0.8),
            most=1,
        ),
        lines(
            "Memory by kind",
            "used and free, whoever uses it.",
            "bytes",
            Query(
                f"max by ({BY}, kind) ({of('podium_gpu_memory_bytes', GPU, KINDS)})",
                LEGEND + " {{kind}}",
            ),
        ),
        lines(
            "Reserved for models",
            "What loaded models hold by our own account, and the most that they may "
            "(`engine.gpu_memory_fraction`). A model that does not fit is refused.",
            "bytes",
            Query(_held("podium_gpu_reserved_bytes"), "{{instance}} {{holder}} reserved"),
            Query(_held("podium_gpu_reservable_bytes"), "{{instance}} {{holder}} allowed"),
            width=24,
        ),
    )


def _power() -> tuple[Panel, ...]:
    return (
        lines(
            "Power",
            "What each GPU draws, and what it may.",
            "watt",
            Query(_each("podium_gpu_power_watts"), LEGEND),
            Query(_each("podium_gpu_power_limit_watts"), LEGEND + " limit"),
            width=6,
        ),
        lines(
            "Temperature",
            "Of the chip. Most GPUs lower their clocks a little above 85 degrees.",
            "celsius",
            Query(_each("podium_gpu_temperature_celsius"), LEGEND),
            levels=below(75, 85),
            width=6,
        ),
        lines(
            "Clocks",
            "A fall under load means heat or a power limit.",
            "hertz",
            Query(
                f"max by ({BY}, clock) ({of('podium_gpu_clock_hertz', GPU)})",
                LEGEND + " {{clock}}",
            ),
            width=6,
        ),
        lines(
            "Memory errors",
            "Counted by ECC in the last hour. Uncorrected ones end the engine process.",
            "none",
            Query(
                f"max by ({BY}, kind) (increase({of('podium_gpu_ecc_errors_total', GPU)}[1h]))",
                LEGEND + " {{kind}}",
            ),
            width=6,
        ),
    )
