"""Do CUDA's real bindings take every call as `service.engines.cuda` makes it?

    python -m tests.service.engines.check_cuda SIDE

SIDE is the folder into which ``record_signatures`` installed the bindings.
Without a driver each call answers with an error code; one with a wrong number
or type of arguments would raise TypeError before it got that far.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranking_models.tensorrt.device import Device
from service.engines.cuda import CudaFailed, CudaRuntime
from tests.ranking_models.tensorrt.record_signatures import CUDA, HAS_WHEELS


def main(side: str) -> int:
    bindings = Path(side).resolve() / CUDA.folder
    if not HAS_WHEELS or Path("/dev/nvidiactl").exists():
        sys.stdout.write("CUDA's bindings without a driver: not for this machine\n")
        return 0
    child = subprocess.run(
        [sys.executable, "-c", f"import {__spec__.name} as check; check.call_all()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(bindings), str(Path.cwd())])},
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(child.stderr if child.returncode else child.stdout)
    return child.returncode


def call_all() -> None:
    """Every call once; raises where one is not answered as it is without a driver."""
    import cuda.bindings.runtime as cuda

    device = Device(index=0, name="none", compute_capability=(7, 5), driver="none")
    runtime = CudaRuntime(cuda, device)
    calls = _calls(runtime, cuda)
    for name, call in calls.items():
        try:
            call()
        except CudaFailed as failure:
            if failure.error not in ("cudaErrorInsufficientDriver", "cudaErrorNoDevice"):
                raise
        else:
            if name not in RELEASED:
                raise SystemExit(f"{name} answered without an error")
    sys.stdout.write(f"{CUDA.requirements[0]} takes {len(calls)} calls of service.engines.cuda\n")


RELEASED = {"free", "free_pinned", "destroy_stream", "destroy_event", "destroy_graph", "template"}
"""What is given back is logged and does not raise."""


def _calls(runtime: CudaRuntime, cuda: Any) -> dict[str, Callable[[], object]]:
    stream, event = cuda.cudaStream_t(0), cuda.cudaEvent_t(0)
    graph, template = cuda.cudaGraphExec_t(0), cuda.cudaGraph_t(0)
    assert int(stream) == 0, "TensorRT is given a stream's number"
    mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    return {
        "use": runtime.use,
        "memory": runtime.memory,
        "allocate": lambda: runtime.allocate(256),
        "free": lambda: runtime.free(256),
        "allocate_pinned": lambda: runtime.allocate_pinned(256),
        "free_pinned": lambda: runtime.free_pinned(256),
        "stream": runtime.stream,
        "synchronise": lambda: runtime.synchronise(stream),
        "destroy_stream": lambda: runtime.destroy_stream(stream),
        "event": runtime.event,
        "timed event": lambda: runtime.event(timed=True),
        "record": lambda: runtime.record(event, stream),
        "wait": lambda: runtime.wait(event),
        "elapsed_ms": lambda: runtime.elapsed_ms(event, event),
        "destroy_event": lambda: runtime.destroy_event(event),
        "copy_in": lambda: runtime.copy_in(256, 512, 16, stream),
        "copy_out": lambda: runtime.copy_out(512, 256, 16, stream),
        "captured": lambda: runtime.captured(stream, lambda: None),
        "begin": lambda: runtime._call("cudaStreamBeginCapture", stream, mode),
        "end": lambda: runtime._call("cudaStreamEndCapture", stream),
        "instantiate": lambda: runtime._call("cudaGraphInstantiate", template, 0),
        "template": lambda: runtime._release("cudaGraphDestroy", template),
        "launch": lambda: runtime.launch(graph, stream),
        "destroy_graph": lambda: runtime.destroy_graph(graph),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
