"""Warming spread over the processes and machines of a Ray cluster."""

import asyncio
import logging
import socket
from collections.abc import Callable, Generator
from math import ceil
from typing import Any

import msgspec

from ranking_models.errors import InputError
from service.bulk.chunks import Chunk, ChunkDone, Progress, chunks
from service.bulk.desk import RayDesk
from service.bulk.filler import Filler, Order
from service.bulk.parts import warming_parts
from service.errors import StartupError
from service.settings import LoadedSettings
from service.warming.values import WarmReply, WarmRequest

CHUNKS_EACH = 8
"""Tasks per process: the last ones to end leave the others idle for no longer than one takes."""
MOST_IN_CHUNK = 2_000
"""What is looked through again when a process dies, or is run twice, at the most."""

_LOOK_S = 5.0
_HINT = "To change retry attempts"
_OURS = ("service.errors.", "ranking_models.errors.")


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
    if address is not None:
        look_for(address)
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
    connect(ray, workers, address)
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
            desk = RayDesk.opened(ray, cut)
            yield from first_ends(_dataset(ray, len(cut) + processes, order, desk, processes), cut)
        except ray.exceptions.RayError as failure:
            raise _ended(reason_in(str(failure))) from None
    finally:
        ray.shutdown()


def first_ends(dataset: Any, cut: list[Chunk]) -> Generator[ChunkDone]:
    """The first end of every chunk; nobody waits for tasks that are slower than that.

    Raises:
        InputError: a task failed.
    """
    missing = set(cut)
    for row in dataset.iter_rows():
        if row["failed"]:
            raise _ended(row["failed"])
        if not row["done"]:
            continue
        done = msgspec.json.decode(row["done"], type=ChunkDone)
        if done.chunk in missing:
            missing.remove(done.chunk)
            yield done
        if not missing:
            return


def reason_in(words: str) -> str:
    """Of a traceback in Ray's words: what our own code said, else their last line."""
    lines = [line.strip() for line in words.strip().splitlines()]
    lines = [line for line in lines if not line.startswith(_HINT)] or lines
    said = [line for line in lines if line.startswith(_OURS)]
    return said[-1].partition(": ")[2] if said else lines[-1]


def _ended(reason: str) -> InputError:
    return InputError(f"Ray: {reason}; what is done stays done, go on with --resume")


def _dataset(ray: Any, tasks: int, order: Order, desk: RayDesk, processes: int) -> Any:
    """Tasks that ask for chunks, on processes that stay: one for every chunk, and spare ones.

    At the end every process but one may have a task for a chunk of a slower one. By Ray Data's
    defaults a process that dies is replaced and its task is run again, which may come to compute
    pages that are kept already: they are passed by.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # The command shows how far it has got, and says what failed.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [{"task": task} for task in range(tasks)]
    return ray.data.from_items(rows, override_num_blocks=tasks).map(
        Filler,
        fn_constructor_args=(order.encode(), desk),
        # A task that waited behind a slow one would be as slow.
        compute=ray.data.ActorPoolStrategy(size=processes, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
    )


def look_for(address: str) -> None:
    """See that somebody listens there: Ray itself would try for minutes, without a word.

    Args:
        address: As Ray has it: ``host:port``, ``ray://host:port``, or a word such as ``auto``.

    Raises:
        StartupError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _LOOK_S).close()
    except (OSError, OverflowError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise StartupError(
            f"Ray on {address}: {reason}; --ray-address is the port of `ray start --head`, "
            "and this machine has to be one of its cluster"
        ) from None


def connect(ray: Any, workers: int | None, address: str | None) -> None:
    """Join a cluster, or start one here.

    Raises:
        StartupError: neither.
    """
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            # One for each process, and one for Ray's own tasks.
            cpus = None if workers is None else workers + 1
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    except Exception as problem:  # a node that does not start in time is nothing more special
        where, words = address or "this machine", str(problem) or type(problem).__name__
        raise StartupError(f"Ray on {where}: {words.splitlines()[0]}") from None


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
