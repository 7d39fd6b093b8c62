"""``python -m tests.bench [WHAT ...]``: what things cost, and how Podium compares.

    rank         one ranking request over HTTP, cache off and on: the README's table
    batcher      the batcher, against direct calls of the engine
    engine       from ids to scores on ONNX Runtime, whole and split, and what was chosen why
    openvino     OpenVINO beside ONNX Runtime: precisions, and what steady shapes bring
    cache_level  the cache level in the process: hit rates over Zipf demand, microseconds
    host         a call in the engine process that all workers share
    cache-hits   hit rates of the real cache, replayed against the simulations of its design
    cache-pages  item pages of a million items: warmed, replayed, warm against cold
    cache-rows   a lookup of 100 score rows, and bytes per row in the cache server
    cache-store  a lookup in the cache server: the lean client beside redis-py
    assignment   a decision of the experiments
    arms         an equal model in two arms with a cache each: not to be called a loss
    interleaving how many users interleaving and an A/B test need for the same difference
    rollout      simulated rollouts with planted effects: how often the rule is right
    statistics   do intervals, p-values and plans keep their promises: false alarms, coverage
    telemetry    metrics and traces per request
    generator    what the load generator itself costs per request
    device       a simulated device: the service side must not be the limit of a GPU
    peers        Podium beside mosec, Litestar, FastAPI, PyTriton and LitServe, which are
                 installed first, each in an environment of its own

Without a name: all but peers. ``all``: peers too, which takes about half an hour.
One name may be followed by options of its own: ``python -m tests.bench peers --quick``.
With ``--quick`` alone, or ``all --quick``, the long ones are short.
"""

import importlib
import sys

QUICK = ("cache-hits", "cache_level", "device", "peers", "statistics")
LOCAL = (
    "rank", "engine", "openvino", "batcher", "cache_level", "cache-hits", "cache-pages",
    "cache-rows", "cache-store", "host",
    "assignment", "arms", "interleaving", "rollout", "statistics", "telemetry",
    "generator", "device",
)  # fmt: skip
EVERY = (*LOCAL, "peers")


def main() -> None:
    names = [word for word in sys.argv[1:2] if not word.startswith("-")]
    options = sys.argv[1 + len(names) :]
    if options in (["-h"], ["--help"]) and not names:
        print(__doc__)
        return
    if names and names[0] in EVERY:
        run(names[0], options)
        return
    if names not in ([], ["all"]) or options not in ([], ["--quick"]):
        raise SystemExit(f"{' '.join(sys.argv[1:])!r} is not known\n\n{__doc__}")
    for name in EVERY if names else LOCAL:
        print(f"\n## {name}\n", flush=True)
        run(name, options if name in QUICK else [])


def run(name: str, options: list[str]) -> None:
    """One of the benches, as if its own module had been called."""
    bench = importlib.import_module(f"tests.bench.bench_{name.replace('-', '_')}")
    sys.argv = [f"python -m tests.bench {name}", *options]
    bench.main()


main()
