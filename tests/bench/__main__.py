"""``python -m tests.bench [WHAT ...]``: what things cost, and how Podium compares.

    rank         one ranking request over HTTP, cache off and on: the README's table
    batcher      the batcher, against direct calls of the engine
    engine       from ids to scores on ONNX Runtime, whole and split, and what was chosen why
    openvino     OpenVINO beside ONNX Runtime: precisions, and what steady shapes bring
    host         a call in the engine process that all workers share
    assignment   a decision of the experiments
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

QUICK = ("device", "peers")
LOCAL = (
    "rank", "engine", "openvino", "batcher", "host", "assignment", "telemetry", "generator",
    "device",
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
    bench = importlib.import_module(f"tests.bench.bench_{name}")
    sys.argv = [f"python -m tests.bench {name}", *options]
    bench.main()


main()
