"""TensorRT plans as engines: slots with a stream of their own, row buckets, CUDA graphs.

Who loads a chain needs three things::

    from service.engines.memory import MemoryBudget             # one per device and process
    from service.engines.tensor_rt.bundles import load_bundle   # find or compile, then load
    from service.engines.tensor_rt.plan import LoadedPlan       # what that gives

    budget = MemoryBudget(settings.engine.gpu_memory_fraction)
    loaded = load_bundle(
        bundle, precision, settings.engine, slots=2, plans=Path(...), budget=budget, created=now,
    )                       # raises ranking_models.errors.InputError (NoDevice is one) or
                            # service.errors.EngineFailed (MemoryRefused, DeviceLost are ones)
    loaded.slots            # tuple[Engine, ...]: one per instance of the batcher
    loaded.predicted_bytes  # of the device; the budget holds them until the last slot is closed
    loaded.close()          # or close() of every slot; both may be called

It takes seconds to minutes where the plan must be compiled: call it on a thread.
No module here imports TensorRT or CUDA when it is imported.
"""
