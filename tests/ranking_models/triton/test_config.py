"""``config.pbtxt`` as text: what Triton's parser makes of it is for `tests.verify_triton`."""

import msgspec

from ranking_models.triton.config import (
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    Reshape,
    ResponseCache,
    TensorConfig,
    Warmup,
    WarmupInput,
    as_text,
)

CONFIG = ModelConfig(
    name='a "quoted" näme',
    backend="tensorrt",
    max_batch_size=0,
    input=(TensorConfig("dense", "TYPE_FP32", (4,)), TensorConfig("ids", "TYPE_INT32", (2,))),
    output=(TensorConfig("score", "TYPE_FP32", (1,), Reshape(), "labels.txt"),),
    instance_group=(InstanceGroup("KIND_GPU", 2, ("0", "1")),),
    dynamic_batching=DynamicBatching(
        preferred_batch_size=(64, 128), max_queue_delay_microseconds=5000, preserve_ordering=True
    ),
    model_warmup=(Warmup("one", 1, {"ids": WarmupInput("TYPE_INT32", (2,), "row.ids")}),),
    response_cache=ResponseCache(enable=False),
)

TEXT = """\
name: "a \\"quoted\\" näme"
backend: "tensorrt"
max_batch_size: 0
input {
  name: "dense"
  data_type: TYPE_FP32
  dims: [4]
}
input {
  name: "ids"
  data_type: TYPE_INT32
  dims: [2]
}
output {
  name: "score"
  data_type: TYPE_FP32
  dims: [1]
  reshape {
  }
  label_filename: "labels.txt"
}
instance_group {
  kind: KIND_GPU
  count: 2
  profile: ["0", "1"]
}
dynamic_batching {
  preferred_batch_size: [64, 128]
  max_queue_delay_microseconds: 5000
  preserve_ordering: true
}
model_warmup {
  name: "one"
  batch_size: 1
  inputs {
    key: "ids"
    value {
      data_type: TYPE_INT32
      dims: [2]
      input_data_file: "row.ids"
    }
  }
}
response_cache {
  enable: false
}
"""


def test_a_configuration_is_written_in_the_text_format():
    assert as_text(CONFIG) == TEXT


def test_what_is_not_said_is_not_written():
    bare = ModelConfig(name="m", max_batch_size=8, input=(), output=())

    assert as_text(bare) == 'name: "m"\nmax_batch_size: 8\n'
    assert msgspec.to_builtins(bare) == {
        "name": "m",
        "max_batch_size": 8,
        "input": (),
        "output": (),
    }
