"""The memory of one GPU: what the loaded models take of it, by prediction, and if one more fits.

A GPU that runs out of memory fails in the middle of a request, and takes
models with it that were there before. So every model says first what it will
take, and what does not fit under the limit is refused with the figures.
During a hot swap the old and the new version are both there, and both count.

Pure accounting: nothing here allocates, and nothing asks the device.
"""

import threading

from msgspec import Struct

from service.engines.cuda import DeviceMemory
from service.errors import EngineFailed

GIB = 1 << 30
MIB = 1 << 20


class Hold(Struct, frozen=True):
    """What one model takes of the device."""

    model: str
    """``name@version precision``."""
    bytes: int


class MemoryState(Struct, frozen=True):
    """What models take of a device, at one moment."""

    limit_bytes: int | None
    """For all models together; None before the first one."""
    holds: tuple[Hold, ...]


class MemoryRefused(EngineFailed):
    """The device has no room for a model; nothing was reserved."""

    def __init__(
        self, model: str, needed_bytes: int, left_bytes: int, limit_bytes: int, held: list[Hold]
    ) -> None:
        self.needed_bytes, self.left_bytes = needed_bytes, left_bytes
        holders = "".join(f"; {hold.model} holds {size(hold.bytes)}" for hold in held)
        super().__init__(
            f"{model} needs {size(needed_bytes)} of GPU memory, {size(max(left_bytes, 0))} of "
            f"{size(limit_bytes)} are left{holders}; unload a model, or raise "
            "engine.gpu_memory_fraction"
        )


class Reservation:
    """Memory that counts as taken until it is released. From any thread."""

    def __init__(self, budget: "MemoryBudget", model: str) -> None:
        self.model = model
        self.held_bytes = 0
        self._budget = budget

    def resize(self, needed_bytes: int, memory: DeviceMemory) -> None:
        """Hold this much in place of what was held.

        Raises:
            MemoryRefused: there is not so much; what was held stays held.
        """
        self._budget.resize(self, needed_bytes, memory)

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        self._budget.release(self)


class MemoryBudget:
    """What may be taken of one device. From any thread; one per process and device.

    Args:
        fraction: Of the device's memory, for all models together with what was
            taken before the first one: by CUDA itself and by other processes.
    """

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._lock = threading.Lock()
        self._kept: list[Reservation] = []
        self._limit_bytes: int | None = None

    @property
    def limit_bytes(self) -> int | None:
        """For all models together; None before the first one."""
        return self._limit_bytes

    @property
    def state(self) -> MemoryState:
        return MemoryState(self._limit_bytes, self.holds)

    @property
    def held_bytes(self) -> int:
        """By all models that are loaded, the old one of a hot swap too."""
        return sum(hold.bytes for hold in self.holds)

    @property
    def holds(self) -> tuple[Hold, ...]:
        """What each model takes, in the order in which they were loaded."""
        with self._lock:
            return tuple(Hold(one.model, one.held_bytes) for one in self._kept)

    def reserve(self, model: str, needed_bytes: int, memory: DeviceMemory) -> Reservation:
        """Count memory as taken by a model that is about to be loaded.

        Args:
            model: ``name@version precision``, for those who are refused later.
            needed_bytes: The most that it will take.
            memory: The device's, as it is now.

        Raises:
            MemoryRefused: it does not fit; says what it needs, what is left, and who has the rest.
        """
        reservation = Reservation(self, model)
        self.resize(reservation, needed_bytes, memory)
        return reservation

    def resize(self, reservation: Reservation, needed_bytes: int, memory: DeviceMemory) -> None:
        """See `Reservation.resize`."""
        with self._lock:
            if self._limit_bytes is None:
                others = memory.total_bytes - memory.free_bytes
                self._limit_bytes = max(0, int(self._fraction * memory.total_bytes) - others)
            rest = [Hold(o.model, o.held_bytes) for o in self._kept if o is not reservation]
            left = self._limit_bytes - sum(hold.bytes for hold in rest)
            if needed_bytes > left:
                raise MemoryRefused(reservation.model, needed_bytes, left, self._limit_bytes, rest)
            reservation.held_bytes = needed_bytes
            if reservation not in self._kept:
                self._kept.append(reservation)

    def release(self, reservation: Reservation) -> None:
        """See `Reservation.release`."""
        with self._lock:
            if reservation in self._kept:
                self._kept.remove(reservation)


def size(amount: int) -> str:
    """Bytes for people."""
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{amount / MIB:.1f} MiB"
