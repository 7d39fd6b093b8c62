"""``python -m tests.chaos [FAULT ...]``: a failing cache server costs no answer, and little time.

For every fault two runs under load against a real service and real Valkey
servers: a closed loop of 32 callers, and an open loop that takes half of the
core that the service has. Every reply is compared with what ONNX Runtime
computes. A table follows, and the figures as JSON. It fails if a request
failed or an answer was wrong; times that missed what is promised are marked
with ``!``, as other work on the machine can do that too.

    --client lean|redis-py   with one client; without it with both
    --mode segment_rescore   in place of exact: replies of 5 of 20 candidates, by score rows
    --quick                  2,000 replies per fault in place of 100,000, and faults of 2 s
    --json FILE              where the figures go; bench/chaos.json in the environment without it
    --list                   the faults
"""

import argparse
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import msgspec

from tests.chaos.faults import FAULTS
from tests.chaos.measuring import FULL, QUICK, Row, measure
from tests.chaos.site import Client

FIGURES = Path(sys.prefix) / "bench" / "chaos.json"
HEADER = (
    "fault         client     checked  failed  wrong   base p50/p99  no cache p50/p99"
    "  until open p50/p99  open p50/p99   opened  recovery  cost open"
)
UNITS = (
    "                                                          ms                ms"
    "                  ms            ms        s         s         ms"
)


def main() -> None:
    asked = _arguments()
    if asked.list:
        for name, fault in FAULTS.items():
            print(f"{name:12}  {fault.words}")
        return
    unknown = [name for name in asked.fault if name not in FAULTS]
    if unknown:
        raise SystemExit(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    clients: list[Client] = [asked.client] if asked.client else [*get_args(Client)]
    rows: list[Row] = []
    print(f"{HEADER}\n{UNITS}", flush=True)
    began = time.monotonic()
    for client in clients:
        for name in asked.fault or FAULTS:
            fault = FAULTS[name]
            if fault.site == "cluster" and client != clients[-1]:
                continue  # clusters are redis-py's, whatever the setting
            if fault.of_slates and asked.mode != "exact":
                continue  # there would be nothing to spoil
            row = measure(name, fault, client, asked.mode, QUICK if asked.quick else FULL)
            rows.append(row)
            print(render(row), flush=True)
            _write(asked.json, rows)
    print(f"\nfigures: {asked.json}")
    conclude(rows, time.monotonic() - began)


def render(row: Row) -> str:
    """One line of the table."""
    verdicts = row.verdicts()

    def marked(text: str, promise: str) -> str:
        return text + ("!" if verdicts[promise] == "missed" else " ")

    return " ".join(
        [
            f"{row.fault:12} {row.client:9} {row.requests:8,} {row.failed:7} {row.wrong:6}",
            f"{_pair(row.base_p50_ms, row.base_p99_ms):>14}",
            f"{_pair(row.no_cache_p50_ms, row.no_cache_p99_ms):>17}",
            marked(f"{_pair(row.until_open_p50_ms, row.until_open_p99_ms):>19}", "p99 until open"),
            marked(f"{_pair(row.open_p50_ms, row.open_p99_ms):>12}", "p99 open"),
            f"{_number(row.opened_after_s, '.2f'):>8}",
            marked(f"{_number(row.recovery_s, '.2f'):>8}", "recovery"),
            marked(f"{_number(row.open_cost_ms, '+.3f'):>9}", "cost open"),
        ]
    )


def _pair(p50: float, p99: float) -> str:
    return "-" if p50 != p50 else f"{p50:.1f}/{p99:.1f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _write(file: Path, rows: list[Row]) -> None:
    made = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m tests.chaos " + " ".join(sys.argv[1:]),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "rows": [msgspec.to_builtins(row) | {"verdicts": row.verdicts()} for row in rows],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(made, indent=1) + "\n")


def conclude(rows: list[Row], took_s: float) -> None:
    """Sum it up, and fail if a promise on counts was broken."""
    requests, broken = sum(row.requests for row in rows), []
    for row in rows:
        if not row.keeps_its_counts:
            broken.append(f"{row.fault} with {row.client}: {row.problems or 'not ready'}")
    missed = sum(verdict == "missed" for row in rows for verdict in row.verdicts().values())
    print(
        f"{requests:,} replies checked in {took_s:.0f} s: "
        f"{sum(row.failed for row in rows)} failed, {sum(row.wrong for row in rows)} wrong; "
        f"{missed} promises on times missed"
    )
    if broken:
        raise SystemExit("\n".join(["BROKEN:", *broken]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("fault", nargs="*")
    parser.add_argument("--client", choices=get_args(Client))
    parser.add_argument("--mode", choices=("exact", "segment_rescore"), default="exact")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, default=FIGURES, metavar="FILE")
    parser.add_argument("--list", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
