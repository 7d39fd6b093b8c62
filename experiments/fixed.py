"""Names and numbers that definitions and decisions agree on."""

from experiments.hashing import HashId

HASH: HashId = "m3x32-v1"
"""Our own hash; see `experiments.hashing.murmur`."""

WHOLE_BP = 10_000
"""Everything, in basis points."""

DEPLOYMENT_LAYER = "deployment"
"""The layer of all experiments that decide the deployment, so that one request has one model."""

INTERLEAVED = "interleaved"
"""The variant that an interleaved slate is told as and counted under."""
