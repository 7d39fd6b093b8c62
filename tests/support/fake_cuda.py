"""``cuda.bindings.runtime`` with the GPUs that a test names, and its real names and arguments."""

from tests.support.recorded import RecordedModule, Recording

FILE = "cuda-runtime-13.5.json"

Gpu = tuple[str, int, int]
"""Name, major and minor of the compute capability."""

T4: Gpu = ("Tesla T4", 7, 5)
L4: Gpu = ("NVIDIA L4", 8, 9)


def fake_cuda(
    *gpus: Gpu, count_error: str = "cudaSuccess", set_error: str = "cudaSuccess"
) -> RecordedModule:
    """The module on a machine with these GPUs; CUDA answers in tuples, an error code first."""
    recording = Recording(FILE)
    errors = recording.enum("cudaError_t", {"cudaSuccess": 0, "cudaErrorInsufficientDriver": 35})

    class cudaDeviceProp:  # noqa: N801 - the real name
        def __init__(self, gpu: Gpu) -> None:
            self.name, self.major, self.minor = gpu[0].encode(), gpu[1], gpu[2]

    def count():
        fails = count_error != "cudaSuccess"
        return errors[count_error], None if fails else len(gpus)

    return RecordedModule(
        recording,
        functions={
            "cudaGetDeviceCount": count,
            "cudaSetDevice": lambda device: (errors[set_error],),
            "cudaGetDeviceProperties": lambda device: (
                errors.cudaSuccess,
                cudaDeviceProp(gpus[device]),
            ),
            "cudaDriverGetVersion": lambda: (errors.cudaSuccess, 13020),
            "cudaGetErrorString": lambda error: (
                errors.cudaSuccess,
                f"text of {error.name}".encode(),
            ),
        },
        values={"cudaError_t": errors},
    )
