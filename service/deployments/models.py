"""Versions of models: loaded beside the one that serves, made the default, and let go.

A version is loaded for every deployment that names its model without a
version; until it is activated nobody is served by it. Activating is one
assignment: a request that looked its deployment up before is served by the
old version to its end, every later one by the new. The old engines score on
until nobody holds them any more, then they are closed and their memory is free.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping

from ranking_models.bundle import find_bundle
from ranking_models.errors import BundleError
from service.deployments.deployment import Deployment, Deployments
from service.deployments.describing import gpu_memory, model_reports, version_of
from service.deployments.leaving import Held, closed, leave
from service.deployments.loading import DeploymentLoader
from service.errors import (
    LoadRefused,
    ModelPinned,
    StartupError,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
    VersionNotLoaded,
)
from service.messages import GpuMemory, ModelsReply
from service.settings import DeploymentSettings

_log = logging.getLogger(__name__)


class Models:
    """What is loaded, and which version of each model is its default. For one event loop.

    Args:
        loader: Loads deployments, and keeps what they share.
        chosen: The deployments of the settings.

    Raises:
        StartupError: a bundle or an engine is not fit to serve; names it.
    """

    def __init__(self, loader: DeploymentLoader, chosen: Mapping[str, DeploymentSettings]) -> None:
        self._loader, self._chosen = loader, chosen
        self.activations = loader.activations
        self.deployments = Deployments(loader.deployment(n, c) for n, c in chosen.items())
        self._standing_by: dict[tuple[str, str], tuple[Deployment, ...]] = {}
        self._changing = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def standing_by(self) -> tuple[Deployment, ...]:
        """Loaded and warm, and served to nobody who does not ask for their version."""
        return tuple(d for ready in self._standing_by.values() for d in ready)

    async def load(self, model: str, version: str) -> None:
        """Open a version, prove and warm up its engines, and let it stand by.

        Loading what is loaded changes nothing.

        Raises:
            UnknownModel, UnknownVersion: there is no such thing; says what there is.
            ModelPinned: no deployment would ever follow.
            LoadRefused: it cannot serve as well as what serves now; that goes on.
        """
        followers = self._followers(model)
        self._require_bundle(model, version)
        async with self._changing:
            if version in self._loaded_versions(model):
                return
            try:
                ready = await self._made_ready(followers, version)
            except StartupError as error:
                await self._let_go()
                raise LoadRefused(str(error)) from error
            except BaseException:
                await self._let_go()
                raise
            self._standing_by[model, version] = ready
            _log.info("%s@%s is loaded and stands by", model, version)

    async def require_loaded(self, model: str, version: str) -> None:
        """Whether `activate` would go through.

        Raises:
            UnknownModel, UnknownVersion, ModelPinned, VersionNotLoaded: it would not.
        """
        self._followers(model)
        self._require_bundle(model, version)
        loaded = self._loaded_versions(model)
        if version not in loaded:
            raise VersionNotLoaded(
                f"{model}@{version} is not loaded: load it first; loaded are {', '.join(loaded)}"
            )

    async def activate(self, model: str, version: str) -> None:
        """Make a loaded version the default, from the next request on.

        Returns at once; the old version is drained behind. What is the default stays it.

        Raises:
            UnknownModel, UnknownVersion, ModelPinned, VersionNotLoaded: nothing was changed.
        """
        async with self._changing:
            await self.require_loaded(model, version)
            ready = self._standing_by.pop((model, version), ())
            if not ready:
                return
            replaced = [self.deployments[deployment.name] for deployment in ready]
            held = Held(replaced)
            del replaced
            self.deployments.replace(ready)
            _log.info("%s@%s serves from now on", model, version)
            self._let_go_behind(held)

    async def unload(self, model: str, version: str) -> None:
        """Let a version go that stands by.

        Raises:
            UnknownModel, ModelPinned, VersionNotLoaded: there is nothing to unload.
            VersionInUse: it serves; says which deployments.
        """
        self._followers(model)
        async with self._changing:
            if (model, version) in self._standing_by:
                del self._standing_by[model, version]
                await self._let_go()
                return
            users = [d.name for d in self.deployments.values() if version_of(d) == (model, version)]
            if users:
                raise VersionInUse(f"{model}@{version} serves {', '.join(users)}")
            await self.require_loaded(model, version)

    async def catch_up(self) -> None:
        """Serve with what was made the default while this process was being started.

        Raises:
            StartupError: it cannot be loaded.
        """
        for model in sorted({c.model for c in self._chosen.values() if "@" not in c.model}):
            version = self.activations.version(model)
            if version is None or version in self._loaded_versions(model):
                continue
            try:
                await self.load(model, version)
                await self.activate(model, version)
            except UnknownVersion:
                continue  # its bundle is gone, as was said when the newest one was chosen
            except LoadRefused as error:
                raise StartupError(str(error)) from error

    def describe(self, surfaces: Mapping[str, str]) -> ModelsReply:
        """Every deployment with its figures, every model with its versions, and the GPU's memory.

        Args:
            surfaces: Surface to deployment, from the settings.
        """
        return ModelsReply(
            deployments=self.deployments.reports(surfaces),
            models=model_reports(self.deployments.values(), self._everything()),
            gpu_memory=self.gpu_memory,
        )

    @property
    def gpu_memory(self) -> GpuMemory | None:
        """What models hold of the GPU; None where none was ever loaded on one."""
        return gpu_memory(self._loader.engines.memory)

    async def stop(self) -> None:
        """Let go what stands by, once `deployments` have stopped."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        self._standing_by.clear()
        await self._let_go()

    # --- inside ----------------------------------------------------------------------

    async def _made_ready(self, names: Iterable[str], version: str) -> tuple[Deployment, ...]:
        wanted = [(name, self._chosen[name], version) for name in names]

        def prepare() -> None:
            for name, chosen, _ in wanted:
                self._loader.prepare(name, chosen, version)

        await _on_a_thread(prepare)
        ready = tuple(self._loader.deployment(*one) for one in wanted)
        for deployment in ready:
            self._require_as_good(deployment)
        return ready

    def _require_as_good(self, ready: Deployment) -> None:
        """Refuse a version that would serve with fewer engines than the one before it."""
        former = self.deployments[ready.name].loaded
        missing_before = {} if former is None else former.refusals
        refusals = {} if ready.loaded is None else ready.loaded.refusals
        for engine, reason in refusals.items():
            if engine not in missing_before:
                raise StartupError(reason)

    def _let_go_behind(self, held: Held) -> None:
        unused = self._loader.forget(self._everything())
        task = asyncio.create_task(leave(held, unused), name="model-drain")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _let_go(self) -> None:
        await closed(self._loader.forget(self._everything()))

    def _everything(self) -> list[Deployment]:
        return [*self.deployments.values(), *self.standing_by]

    # --- who follows what ------------------------------------------------------------

    def _followers(self, model: str) -> list[str]:
        """The deployments that the default version of a model serves."""
        of_model = {n: c for n, c in self._chosen.items() if c.model.partition("@")[0] == model}
        if not of_model:
            known = sorted({c.model.partition("@")[0] for c in self._chosen.values()})
            raise UnknownModel(f"no deployment serves {model!r}; there are {', '.join(known)}")
        followers = [name for name, chosen in of_model.items() if chosen.model == model]
        if not followers:
            pinned = ", ".join(f"{name} ({chosen.model})" for name, chosen in of_model.items())
            raise ModelPinned(f"every deployment of {model} names its version: {pinned}")
        return followers

    def _require_bundle(self, model: str, version: str) -> None:
        """The model is one of the settings', so its name is one of a folder."""
        folder = self._loader.directory / model / version
        try:
            find_bundle(self._loader.directory, f"{model}@{version}")
        except BundleError as error:
            kind = LoadRefused if folder.is_dir() else UnknownVersion
            raise kind(str(error)) from error

    def _loaded_versions(self, model: str) -> list[str]:
        """Those that deployments of the default can be served by: now, or once activated."""
        followers = self._followers(model)
        serving = {version_of(self.deployments[name])[1] for name in followers}
        return sorted(serving | {v for name, v in self._standing_by if name == model})


async def _on_a_thread(work: Callable[[], None]) -> None:
    """Wait for work of another thread. Nobody waits for it when the process ends meanwhile."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failed: BaseException | None = None
        try:
            work()
        except BaseException as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(finish, failed)

    threading.Thread(target=run, name="podium-loading", daemon=True).start()
    await done
