"""Warming spread over the processes and machines of a Ray cluster."""

import asyncio
import logging
from collections.abc import Callable, Generator
from math import ceil
from typing import Any

import msgspec

from ranking_models.errors import InputError
from service.bulk.chunks import Chunk, ChunkDone, Progress, chunks
from service.bulk.filler import Filler, Order
from service.bulk.parts import warming_parts
from service.errors import StartupError
from service.settings import LoadedSettings
from service.warming.values import WarmReply, WarmRequest

CHUNKS_EACH = 8
"""Tasks per process: the last ones to end leave the others idle for no longer than one takes."""
MOST_IN_CHUNK = 2_000
"""What is computed again when a process dies, at the most."""


def spread(
    loaded: LoadedSettings,
    wanted: WarmRequest,
    *,
    workers: int | None,
    address: str | None,
    draw: Callable[[WarmReply], None],
) -> WarmReply:
    """Warm pages with a process per core, or as many as wanted.

    Args:
        loaded: Settings whose cache server, models and bundles all machines reach alike.
        wanted: Which pages; `rate_per_s` is for all processes together.
        workers: Processes; None for as many as there are cores.
        address: Of a Ray cluster; None to start one on this machine.
        draw: Shown how far it has got.

    Raises:
        StartupError: no Ray, no cluster there, or the settings do not fit.
        InputError: a task failed for good, or what was warmed is of no use any more.
    """
    ray = _ray()
    return asyncio.run(_spread(ray, loaded, wanted, workers, address, draw))


async def _spread(
    ray: Any,
    loaded: LoadedSettings,
    wanted: WarmRequest,
    workers: int | None,
    address: str | None,
    draw: Callable[[WarmReply], None],
) -> WarmReply:
    # Here too, so that what is wrong is said before a cluster is asked for anything.
    async with warming_parts(loaded) as parts:
        beginning = await parts.warmer.beginning(wanted)
        progress = Progress(beginning)
        draw(beginning)
        ends = _ends(ray, loaded, wanted, beginning, workers, address)
        try:
            while (done := await asyncio.to_thread(next, ends, None)) is not None:
                _check_same(beginning, done)
                progress.add(done)
                await parts.warmer.note(wanted, progress.reply)
                draw(progress.reply)
        finally:
            await asyncio.to_thread(ends.close)
    return progress.reply


def _ends(
    ray: Any,
    loaded: LoadedSettings,
    wanted: WarmRequest,
    beginning: WarmReply,
    workers: int | None,
    address: str | None,
) -> Generator[ChunkDone]:
    """The tasks' ends, as they come; the cluster is left in the end."""
    if beginning.is_done:
        return
    _connect(ray, workers, address)
    try:
        processes = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        pages = beginning.top - beginning.next
        size = max(1, min(MOST_IN_CHUNK, ceil(pages / (processes * CHUNKS_EACH))))
        cut = list(chunks(beginning.next, beginning.top, size))
        processes = min(processes, len(cut))
        rate = None if wanted.rate_per_s is None else wanted.rate_per_s / processes
        order = Order(
            settings=loaded.settings,
            directory=str(loaded.directory),
            wanted=msgspec.structs.replace(wanted, rate_per_s=rate),
        )
        try:
            for row in _dataset(ray, cut, order, processes).iter_rows():
                yield msgspec.json.decode(row["done"], type=ChunkDone)
        except ray.exceptions.RayError as failure:
            reason = str(getattr(failure, "cause", None) or failure).strip().splitlines()[-1]
            raise InputError(
                f"Ray: {reason}; what is done stays done, go on with --resume"
            ) from None
    finally:
        ray.shutdown()


def _dataset(ray: Any, cut: list[Chunk], order: Order, processes: int) -> Any:
    """One task per chunk, on processes that stay.

    By Ray Data's defaults a process that dies is replaced and its task is run again, which may
    come to compute pages that are kept already: they are passed by.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    rows = [{"first": chunk.first, "end": chunk.end} for chunk in cut]
    return ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Filler,
        fn_constructor_args=(order.encode(),),
        compute=ray.data.ActorPoolStrategy(size=processes),
        num_cpus=1,
    )


def _connect(ray: Any, workers: int | None, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            # One for each process, and one for Ray's own tasks.
            cpus = None if workers is None else workers + 1
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as problem:
        where = address or "this machine"
        raise StartupError(f"Ray on {where}: {str(problem).splitlines()[0]}") from None


def _check_same(beginning: WarmReply, done: ChunkDone) -> None:
    if (done.epoch, done.last_epoch) != (beginning.epoch, beginning.epoch):
        what = "the cache was purged"
    elif done.model != beginning.model:
        what = f"a process serves {done.model.name}@{done.model.version}"
    else:
        return
    raise InputError(f"{what} at page {done.chunk.first:,}: begin again, without --resume")


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise StartupError(
            "--engine ray needs Ray, which is not installed: pip install 'podium[ray]'"
        ) from None
    return ray
