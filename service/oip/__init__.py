"""The Open Inference Protocol v2 over REST, with Triton's binary tensors: rows in, scores out.

Callers of Triton and KServe bring rows that are already encoded, and get what
the engines give for them: no catalogue, no experiment, no cache, no slate. The
rows wait and are scored together with those of rankings, so admission,
priorities, deadlines, fallbacks and the figures of batches are theirs too.

Bytes become tensors in `codec`, tensors become rows in `rows`; `models` says
what there is under which name, `inference` has it scored.

Source:
    kserve/open-inference-protocol, ``specification/protocol/inference_rest.md``;
    triton-inference-server/server, ``docs/protocol/extension_binary_data.md``,
    ``extension_schedule_policy.md`` and ``extension_statistics.md``.
"""
