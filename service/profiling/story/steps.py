"""What each step runs, and which steps this machine has."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

import ranking_models
from ranking_models.architectures import Imported
from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from service.profiling.story.peer import BUNDLE, SCORER
from service.profiling.story.precision import FP32, Choice, Scoring
from service.profiling.story.servers import Command
from service.profiling.story.values import StepLeftOut

NAMES = ("PyTorch", "ONNX Runtime", "dynamic batching", "reduced precision", "the cache")
BATCHING, REDUCED, CACHE = 2, 3, 4
PROBE_S = 60.0


class Step(Struct, frozen=True, kw_only=True):
    """One step, ready to be started."""

    number: int
    name: str
    what: str
    command: Command
    scoring: Scoring

    @property
    def has_cache(self) -> bool:
        """Whether pages are warmed, and hits counted."""
        return self.number == CACHE


class Peer(Struct, frozen=True, kw_only=True):
    """The environment of the steps without Podium: versions of what it has."""

    python: Path
    versions: dict[str, str | None]

    @property
    def framework(self) -> str:
        """What is in front of the model there."""
        if found := self.versions["fastapi"]:
            return f"FastAPI {found}"
        return "a bare ASGI application (FastAPI is not installed)"

    def missing(self, *names: str) -> list[str]:
        """Those that it lacks."""
        return [name for name in names if self.versions[name] is None]


_PROBE = """\
import importlib.metadata as m, json, sys
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""
_ASKED_FOR = (
    "torch",
    "onnx",
    "pyarrow",
    "fastapi",
    "uvicorn",
    "numpy",
    "msgspec",
    "litestar",
    "onnxruntime",
)


def peer_of(python: Path) -> Peer:
    """What an interpreter has installed.

    Raises:
        InputError: it does not run, or is no Python.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the user named
            [str(python), "-c", _PROBE, *_ASKED_FOR],
            capture_output=True,
            timeout=PROBE_S,
            check=True,
        )
        return Peer(python=python, versions=msgspec.json.decode(done.stdout))
    except OSError as error:
        raise InputError(f"{python}: does not run: {error.strerror}") from None
    except (subprocess.SubprocessError, msgspec.DecodeError):
        raise InputError(f"{python}: is no Python interpreter that works") from None


def steps_of(
    bundle: Bundle, *, peer: Peer, choice: Choice, workers: int
) -> tuple[list[Step], list[StepLeftOut]]:
    """The steps up to the cache, and why not the rest."""
    steps: list[Step] = []
    left_out: list[StepLeftOut] = []
    for number, scorer in enumerate(("torch", "onnxruntime")):
        reason = _lacks(bundle, peer, scorer)
        if reason is None:
            steps.append(_peer_step(bundle, peer, number, scorer, workers))
        else:
            left_out.append(StepLeftOut(number=number, name=NAMES[number], reason=reason))
    steps.append(_podium_step(bundle, BATCHING, FP32, workers))
    if choice.scoring is None:
        left_out.append(StepLeftOut(number=REDUCED, name=NAMES[REDUCED], reason=choice.why))
    else:
        steps.append(_podium_step(bundle, REDUCED, choice.scoring, workers, also=choice.why))
    return steps, left_out


def cache_step(bundle: Bundle, scoring: Scoring, *, workers: int, also: str) -> Step:
    """The last step, on what scores best without a cache; ``also`` says why that is."""
    return _podium_step(bundle, CACHE, scoring, workers, also=also)


def _lacks(bundle: Bundle, peer: Peer, scorer: str) -> str | None:
    """Why a step without Podium cannot run; None if it can."""
    if scorer == "torch" and isinstance(bundle.manifest.architecture, Imported):
        return "the model was imported as an ONNX graph, so there is no PyTorch network of it"
    needed = ("torch", "onnx", "pyarrow") if scorer == "torch" else ("onnxruntime",)
    missing = peer.missing(*needed, "uvicorn", "numpy", "msgspec", "litestar")
    if not missing:
        return None
    extra = "train" if scorer == "torch" else "cpu"
    return (
        f"{peer.python} has no {', '.join(missing)}: pip install 'podium[{extra}]' fastapi there, "
        "or name another with --peer-python"
    )


def _peer_step(bundle: Bundle, peer: Peer, number: int, scorer: str, workers: int) -> Step:
    name, framework = NAMES[number], "FastAPI" if peer.versions["fastapi"] else "bare ASGI"
    uvicorn = ["-m", "uvicorn", "--factory", "service.profiling.story.peer:app"]
    place = ["--host", "127.0.0.1", "--port", "{port}", "--workers", str(workers)]
    return Step(
        number=number,
        name=f"{name} behind {framework}, one by one",
        what=f"{name} {peer.versions[scorer]} behind {peer.framework}, {_processes(workers)}",
        scoring=FP32,
        command=Command(
            arguments=[
                *(str(peer.python), *uvicorn, *place),
                *("--log-level", "warning", "--no-access-log"),
            ],
            environ={
                BUNDLE: str(bundle.path.absolute()),
                SCORER: scorer,
                "OMP_NUM_THREADS": "1",  # PyTorch computes with so many threads
                # This very code, whatever else the interpreter has installed.
                "PYTHONPATH": str(Path(ranking_models.__file__).parents[1]),
            },
        ),
    )


def _podium_step(
    bundle: Bundle, number: int, scoring: Scoring, workers: int, *, also: str = ""
) -> Step:
    cached = number == CACHE
    cache = "the cache warm, exact" if cached else "no cache"
    runs = f"Podium, {scoring.precision} on {scoring.engine}, {cache}, {_processes(workers)}"
    return Step(
        number=number,
        name=f"{NAMES[number]}, {scoring.precision}",
        what=f"{runs} ({also})" if also else runs,
        scoring=scoring,
        command=Command(
            arguments=[sys.executable, "-m", "service", "serve", "--config", "podium.toml"],
            settings=settings_of(bundle, scoring, workers, cache="exact" if cached else "off"),
            environ={"PYTHONPATH": str(Path(ranking_models.__file__).parents[1])},
        ),
    )


def settings_of(bundle: Bundle, scoring: Scoring, workers: int, *, cache: str) -> str:
    """A settings file for ``podium serve``, but for the port; the rest keeps its default."""
    manifest = bundle.manifest
    sections: dict[str, dict[str, object]] = {
        "server": {"workers": workers},
        "models": {"directory": str(bundle.path.absolute().parents[1])},
        "deployments.ranker": {
            "model": f"{manifest.name}@{manifest.version}",
            "precision": scoring.precision,
            # No other stands behind it: what was measured is then what is said.
            "engines": [scoring.engine],
            "cache": cache,
        },
        "surfaces": {"default": "ranker"},
    }
    lines: list[str] = ['state_directory = "state"', "allow_degraded = false"]
    for name, values in sections.items():
        lines.append(f"[{name}]")
        if name == "server":
            lines.append("port = {port}")
        lines += _lines(values)
    return "\n".join(lines) + "\n"


def _lines(values: dict[str, object]) -> Sequence[str]:
    """JSON writes texts, whole numbers and lists of texts as TOML does."""
    return [
        f"{key} = {msgspec.json.encode(value).decode().replace(chr(127), chr(92) + 'u007f')}"
        for key, value in values.items()
    ]


def _processes(workers: int) -> str:
    return f"{workers} {'process' if workers == 1 else 'processes'}"
