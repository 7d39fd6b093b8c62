"""A TensorRT that builds no kernels, and takes and answers what the real one does.

The builder reads the graph with ``onnx``, keeps the rules that were seen on
the real one (an answer of None or False and a logged error, never an
exception), and can be told to fail in each of the ways that the real one does.
On a simulated GPU its plans run: see `fake_tensorrt_runtime`.
"""

import enum
from pathlib import Path
from typing import Any

import msgspec
import onnx

from tests.support.fake_tensorrt_runtime import StoredPlan, StoredTensor, runtime_classes
from tests.support.recorded import RecordedModule, Recording
from tests.support.simulated_gpu import SimulatedGpu

VERSIONS = ("tensorrt-11.4.json", "tensorrt-10.16.json")
RTX = "tensorrt-rtx-1.7.json"


class Faults(msgspec.Struct, kw_only=True):
    """What goes wrong; nothing unless said."""

    refuses_network: str = ""
    """The error that `is_network_supported` logs."""
    refuses_build: str | None = None
    """The error that `build_serialized_network` logs; empty: it says nothing."""
    silent_parser: bool = False
    """Refuses every graph without a reason."""
    invalid_profile: bool = False
    other_rows: bool = False
    """A profile keeps other rows for ids than it was given."""
    drops_profile: bool = False
    other_timing_cache: bool = False
    """The timing cache that it is given is of another GPU."""


class Told(msgspec.Struct, kw_only=True):
    """What the builder was asked for last."""

    profiles: list[dict[str, list[tuple[int, ...]]]] = []
    workspace_bytes: int = 0
    tf32: bool = True
    optimisation_level: int = -1
    timing_cache: bytes | None = None
    """The measurements that the build started from."""


def fake_tensorrt(
    file: str, faults: Faults | None = None, gpu: SimulatedGpu | None = None
) -> tuple[RecordedModule, Told]:
    """The module of one version, and what it will have been told; it runs plans on a GPU alone."""
    recording = Recording(file)
    fails, told = faults or Faults(), Told()
    data_type = recording.enum("DataType", {"FLOAT": 0, "HALF": 1, "INT32": 3, "INT64": 8})
    kinds = {1: data_type.FLOAT, 6: data_type.INT32, 7: data_type.INT64, 10: data_type.HALF}
    flag = recording.enum("NetworkDefinitionCreationFlag")
    pool = recording.enum("MemoryPoolType")
    builder_flag = recording.enum("BuilderFlag")
    severity = _severity(recording)

    class ILogger:
        Severity = severity

        def log(self, severity, msg):
            raise NotImplementedError

    class ITensor:
        def __init__(self, value):
            dims = value.type.tensor_type.shape.dim
            self.name = value.name
            self.dtype = kinds[value.type.tensor_type.elem_type]
            self.shape = tuple(-1 if d.dim_param else d.dim_value for d in dims)
            self._names = [d.dim_param or None for d in dims]

        def get_dimension_name(self, index):
            return self._names[index]

    class INetworkDefinition:
        def __init__(self):
            self.model, self.graph = b"", onnx.GraphProto()

        num_inputs = property(lambda self: len(self.graph.input))
        num_outputs = property(lambda self: len(self.graph.output))

        def get_input(self, index):
            return ITensor(self.graph.input[index])

        def get_output(self, index):
            return ITensor(self.graph.output[index])

    class ParserError:
        desc = staticmethod(lambda: "Assertion failed: Failed to parse the ONNX model.")
        node = staticmethod(lambda: -1)
        node_name = staticmethod(lambda: "")
        node_operator = staticmethod(lambda: "")
        func = staticmethod(lambda: "deserializeOnnxModel")

    class OnnxParser:
        def __init__(self, network, logger):
            self._network, self.num_errors = network, 0

        def parse(self, model, path=None):
            if fails.silent_parser:
                return False
            try:
                self._network.model = model
                self._network.graph = onnx.load_from_string(model).graph
            except Exception:
                self.num_errors = 1
                return False
            return True

        def parse_from_file(self, model):
            return self.parse(Path(model).read_bytes())

        def get_error(self, index):
            assert index < self.num_errors
            return ParserError()

    class IOptimizationProfile:
        def __init__(self):
            self.shapes = {}

        def set_shape(self, input, min, opt, max):  # noqa: A002 - the real names
            self.shapes[input] = [tuple(min), tuple(opt), tuple(max)]

        def get_shape(self, input):  # noqa: A002 - the real name
            if fails.other_rows and input == "ids":
                return [(1, 2), (8, 2), (8, 2)]
            return self.shapes[input]

        def __bool__(self):
            ordered = all(a <= b <= c for a, b, c in self.shapes.values())
            return ordered and not fails.invalid_profile

    class ITimingCache:
        def __init__(self, content):
            self.content = content

        def serialize(self):
            return IHostMemory(self.content)

    class IHostMemory:
        def __init__(self, content):
            self._content = content

        def __bytes__(self):
            return self._content

    class IBuilderConfig:
        builder_optimization_level = 3
        num_compute_capabilities = 0
        profiling_verbosity = None

        def __init__(self):
            self.profiles, self.pools, self.cache = [], {}, None
            self.flags = {builder_flag.TF32}  # as the real one begins

        def clear_flag(self, flag):
            self.flags.discard(flag)

        def set_compute_capability(self, compute_capability, index):
            self.target = compute_capability
            return True

        def set_memory_pool_limit(self, pool, pool_size):
            self.pools[pool] = pool_size

        def add_optimization_profile(self, profile):
            if fails.drops_profile:
                return -1
            self.profiles.append(profile.shapes)
            return len(self.profiles) - 1

        def create_timing_cache(self, serialized_timing_cache):
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache, ignore_mismatch):
            if cache.content and fails.other_timing_cache and not ignore_mismatch:
                return False
            self.cache = cache
            return True

        def get_timing_cache(self):
            return self.cache

    def stored(network, config):
        tensors = [
            StoredTensor(name=one.name, dtype=one.dtype.name, shape=one.shape, is_input=is_input)
            for values, is_input in ((network.graph.input, True), (network.graph.output, False))
            for one in map(ITensor, values)
        ]
        return StoredPlan(recording.version, network.model, tensors, config.profiles)

    class Builder:
        def __init__(self, logger):
            self._logger = logger

        def create_network(self, flags=0):
            # TensorRT 11 is always strongly typed; 10 must be told.
            assert flags == 1 << int(flag.STRONGLY_TYPED), "the network is weakly typed"
            return INetworkDefinition()

        def create_builder_config(self):
            return IBuilderConfig()

        def create_optimization_profile(self):
            return IOptimizationProfile()

        def is_network_supported(self, network, config):
            return not self._fails(fails.refuses_network or None)

        def build_serialized_network(self, network, config):
            if self._fails(fails.refuses_build):
                return None
            if not config.profiles:
                self._fails("Network has dynamic inputs, but no profile has been defined.")
                return None
            told.profiles = config.profiles
            told.workspace_bytes = config.pools[pool.WORKSPACE]
            told.tf32 = builder_flag.TF32 in config.flags
            told.optimisation_level = config.builder_optimization_level
            if config.cache is not None:
                told.timing_cache = config.cache.content
                config.cache = ITimingCache(config.cache.content + b"measured;")
            return IHostMemory(msgspec.msgpack.encode(stored(network, config)))

        def _fails(self, error):
            if error:
                self._logger.log(severity.ERROR, error)
            return error is not None

    classes: dict[str, type] = {"Builder": Builder, "OnnxParser": OnnxParser}
    values = {
        "ILogger": ILogger,
        "DataType": data_type,
        "NetworkDefinitionCreationFlag": flag,
        "MemoryPoolType": pool,
        "BuilderFlag": builder_flag,
    }
    if gpu is not None:
        classes |= runtime_classes(recording, recording.version, values, severity, gpu)
    return RecordedModule(recording, classes=classes, values=values), told


def _severity(recording: Recording) -> Any:
    """Recorded as attributes of ILogger."""
    names = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
    assert set(names) <= set(recording.classes["ILogger"]["attributes"])
    return enum.IntEnum("Severity", {name: i for i, name in enumerate(names)})
