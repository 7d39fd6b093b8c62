"""Three models on the device at once, and one that the budget refuses."""

from contextlib import ExitStack
from itertools import cycle, islice

from service.doctor.proof.building import SLOTS
from service.doctor.proof.figures import Resident, Residents
from service.doctor.proof.rig import Rig
from service.doctor.proof.scores import golden_difference
from service.doctor.proof.sections import Trouble
from service.engines.cuda import CudaRuntime
from service.engines.memory import MemoryBudget, MemoryRefused
from service.engines.tensor_rt.plan import LoadedPlan

MODELS = 3


def prove_residents(rig: Rig, trouble: Trouble) -> Residents | None:
    """Load three models, score with all of them in turn, and ask for one more than fits."""
    device = CudaRuntime(rig.gpu.cuda, rig.gpu.device)
    device.use()
    free = device.memory().free_bytes
    budget = MemoryBudget(rig.settings.gpu_memory_fraction)
    with ExitStack() as stack:
        plans: list[LoadedPlan] = []
        for number, precision in enumerate(islice(cycle(rig.precisions), MODELS), start=1):
            what = f"model {number} of {MODELS}, {precision}"
            plan = trouble.attempt(what, rig.load, precision, slots=SLOTS, budget=budget)
            if plan is None:
                return None
            stack.callback(plan.close)
            plans.append(plan)
        taken = free - device.memory().free_bytes
        before = device.memory().free_bytes
        refused = _refused(rig, budget, plans[-1], trouble)
        grown = before - device.memory().free_bytes
        if refused is None:
            return None
        return Residents(
            limit_bytes=budget.limit_bytes or 0,
            models=_scored(rig, plans, budget, trouble),
            held_bytes=budget.held_bytes,
            device_bytes=taken,
            refused=refused,
            device_bytes_of_refused=max(0, grown),
        )


def _scored(
    rig: Rig, plans: list[LoadedPlan], budget: MemoryBudget, trouble: Trouble
) -> tuple[Resident, ...]:
    """Golden rows on every model, with the others there."""
    models: list[Resident] = []
    for plan, hold in zip(plans, budget.holds, strict=True):
        slot = plan.slots[-1]
        precision = slot.info.precision
        difference = golden_difference(slot.score, rig.bundle, rig.buckets[-1:])
        tolerance = rig.bundle.manifest.precisions[precision].tolerance
        if difference > tolerance:
            trouble.add(
                f"{precision} beside others: golden rows differ by {difference:.3g}, "
                f"{tolerance:.3g} is allowed"
            )
        models.append(Resident(precision=precision, held_bytes=hold.bytes, golden_max=difference))
    return tuple(models)


def _refused(rig: Rig, budget: MemoryBudget, plan: LoadedPlan, trouble: Trouble) -> str | None:
    """What the budget says of the same model with so many slots that they do not fit."""
    left = (budget.limit_bytes or 0) - budget.held_bytes
    slots = 2 * left // plan.footprint.buffer_bytes + 1
    precision = plan.slots[0].info.precision
    try:
        rig.load(precision, slots=slots, budget=budget).close()
    except MemoryRefused as refusal:
        return str(refusal)
    trouble.add(f"{precision} with {slots} slots was loaded, where {left} bytes were left for it")
    return None
