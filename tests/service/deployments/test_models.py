"""Versions are loaded beside the one that serves, activated, and let go."""

import asyncio

import numpy as np
import pytest

from service.deployments.changes import ModelChanges
from service.errors import (
    ChangeUnderWay,
    LoadRefused,
    ModelPinned,
    NotReady,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
    VersionNotLoaded,
)
from service.fleet import Alone
from tests.support.bundles import overwrite
from tests.support.versions import Home, score


@pytest.fixture
def home(tmp_path, clock):
    return Home(tmp_path, clock)


@pytest.fixture
def models(home):
    return home.models(a={}, uncached={}, popular={"engines": ("popularity",)})


@pytest.fixture
def old(models):
    return version_of(models, "a")


@pytest.fixture
def new(home, old):
    return home.other(old)


def version_of(models, name):
    return models.deployments[name].bundle.manifest.version


def loaded(models):
    (report,) = models.describe({}).models
    return {v.version: (v.default, v.deployments) for v in report.versions}


async def test_a_loaded_version_stands_by_and_serves_nobody(models, old, new):
    await models.load("tiny", new)

    assert loaded(models) == {old: (True, ("a", "uncached", "popular")), new: (False, ())}
    assert version_of(models, "a") == old


async def test_an_activated_version_serves_every_deployment_that_names_none(home, old, new):
    models = home.models(
        a={}, pinned={"model": f"tiny@{old}"}, popular={"engines": ("popularity",)}
    )
    await models.load("tiny", new)

    await models.activate("tiny", new)

    assert loaded(models) == {new: (True, ("a", "popular")), old: (False, ("pinned",))}
    assert version_of(models, "pinned") == old


async def test_deployments_of_a_new_version_share_what_they_shared(models, new):
    await models.load("tiny", new)
    await models.activate("tiny", new)

    a, uncached = models.deployments["a"], models.deployments["uncached"]

    assert a.batcher is uncached.batcher
    assert a.bundle is uncached.bundle


async def test_who_holds_the_old_version_is_served_by_it_to_the_end(models, old, new, clock):
    held = models.deployments["a"]
    before = await score(held, clock)
    await models.load("tiny", new)

    await models.activate("tiny", new)
    await asyncio.sleep(0)

    np.testing.assert_array_equal(await score(held, clock), before)
    assert not np.array_equal(await score(models.deployments["a"], clock), before)


async def test_the_old_engines_are_closed_when_the_last_request_has_ended(models, new, clock):
    held = models.deployments["a"]
    batcher, chains = held.batcher, held.chains
    await models.load("tiny", new)
    await models.activate("tiny", new)
    assert chains[0].engines

    del held
    await asyncio.gather(*models._leaving)

    assert chains[0].engines == ()
    with pytest.raises(NotReady):
        await batcher.score(models.deployments["a"].bundle.golden[0], deadline=clock.now() + 1)


async def test_a_pinned_deployment_keeps_the_engines_that_it_shared(home, old, new, clock):
    models = home.models(a={}, pinned={"model": f"tiny@{old}"})
    pinned = models.deployments["pinned"]
    assert pinned.batcher is models.deployments["a"].batcher
    await models.load("tiny", new)
    await models.activate("tiny", new)
    await asyncio.gather(*models._leaving)

    await score(pinned, clock)


async def test_one_may_go_back_to_the_version_before(models, old, new, clock):
    before = await score(models.deployments["a"], clock)
    for version in (new, old):
        await models.load("tiny", version)
        await models.activate("tiny", version)
    await asyncio.gather(*models._leaving)

    np.testing.assert_array_equal(await score(models.deployments["a"], clock), before)


async def test_activating_what_serves_and_loading_what_is_loaded_change_nothing(models, old, new):
    serving = models.deployments["a"]
    await models.load("tiny", old)
    await models.activate("tiny", old)
    await models.load("tiny", new)
    await models.load("tiny", new)

    assert models.deployments["a"] is serving
    assert sorted(loaded(models)) == sorted([old, new])


async def test_unloading_lets_a_version_go_that_stands_by(models, old, new):
    await models.load("tiny", new)
    standing_by = models._standing_by["tiny", new][0]

    await models.unload("tiny", new)

    assert sorted(loaded(models)) == [old]
    assert standing_by.chains[0].engines == ()
    with pytest.raises(VersionNotLoaded, match=f"tiny@{new} is not loaded: .* {old}"):
        await models.unload("tiny", new)


async def test_what_serves_is_not_unloaded(home, old, new):
    models = home.models(a={}, b={}, pinned={"model": f"tiny@{new}"})
    default, other = version_of(models, "a"), home.other(version_of(models, "a"))
    served = {default: "a, b", other: "pinned"}
    if default == new:
        served = {new: "a, b, pinned"}

    for version, names in served.items():
        with pytest.raises(VersionInUse, match=f"tiny@{version} serves {names}$"):
            await models.unload("tiny", version)


async def test_what_is_not_there_is_refused_with_what_is(models, old, new):
    with pytest.raises(UnknownVersion, match=f"no bundle tiny@00000000; there are: .*tiny@{new}"):
        await models.load("tiny", "00000000")
    with pytest.raises(UnknownVersion, match="no bundle tiny@00000000"):
        await models.activate("tiny", "00000000")
    with pytest.raises(VersionNotLoaded, match=f"tiny@{new} is not loaded: .* loaded are {old}"):
        await models.activate("tiny", new)
    for change in (models.load, models.activate, models.unload):
        with pytest.raises(UnknownModel, match="no deployment serves 'huge'; there are tiny"):
            await change("huge", new)


async def test_a_model_that_is_pinned_everywhere_follows_nobody(home, new):
    models = home.models(only={"model": f"tiny@{new}"})

    with pytest.raises(ModelPinned, match=rf"only \(tiny@{new}\)"):
        await models.load("tiny", new)


async def test_a_damaged_bundle_is_refused_and_the_old_one_serves_on(home, models, old, new, clock):
    before = await score(models.deployments["a"], clock)
    overwrite(home.paths[new] / "popularity.npy", b"something else")

    with pytest.raises(LoadRefused, match=r"popularity\.npy"):
        await models.load("tiny", new)

    assert sorted(loaded(models)) == [old]
    np.testing.assert_array_equal(await score(models.deployments["a"], clock), before)


async def test_a_version_that_would_serve_with_fewer_engines_is_refused(
    home, models, old, new, monkeypatch
):
    """At the start the rest of a chain serves; a hot swap must not make it worse."""
    former = models.deployments["a"]
    monkeypatch.setattr(
        type(former.loaded), "refusals", property(lambda self: refusals(self, former.loaded))
    )

    def refusals(chains, serving):
        return {} if chains is serving else {"tensorrt": "needs 3.1 GiB, 1.2 GiB are left"}

    with pytest.raises(LoadRefused, match=r"needs 3\.1 GiB"):
        await models.load("tiny", new)
    assert sorted(loaded(models)) == [old]


async def test_stopping_closes_what_stands_by(models, new):
    await models.load("tiny", new)
    standing_by = models._standing_by["tiny", new][0]

    await models.deployments.stop()
    await models.stop()

    assert standing_by.chains[0].engines == ()
    assert models.deployments["a"].chains[0].engines == ()


async def test_what_was_activated_serves_after_a_restart(home, models, old, new):
    changes = ModelChanges(models, Alone())
    await changes.load("tiny", new)
    await changes.activate("tiny", new)

    assert version_of(home.models(a={}), "a") == new


async def test_what_is_activated_while_a_worker_starts_serves_there_too(home, models, old, new):
    models.activations.keep("tiny", new)

    await models.catch_up()

    assert version_of(models, "a") == new


async def test_a_default_whose_bundle_is_gone_gives_way_to_the_newest(home, models, old, caplog):
    models.activations.keep("tiny", "00000000")

    again = home.models(a={})
    await again.catch_up()

    assert version_of(again, "a") == old
    assert "tiny@00000000" in caplog.text


class Fleet:
    """Several workers in one process."""

    def __init__(self, models):
        self.workers = [Alone() for _ in models]

    def on(self, command, handler):
        self.workers[0].on(command, handler)

    async def ask(self, command, payload=b"", *, limit_s=60.0):
        return [
            answer
            for w in self.workers
            for answer in await w.ask(command, payload, limit_s=limit_s)
        ]


@pytest.fixture
def two(home):
    return [home.models(a={}), home.models(a={})]


@pytest.fixture
def changes(two):
    fleet = Fleet(two)
    ModelChanges(two[1], fleet.workers[1])
    return ModelChanges(two[0], fleet)


async def test_every_worker_makes_a_change(two, changes, old, new):
    await changes.load("tiny", new)
    assert [sorted(loaded(models)) for models in two] == [sorted([old, new])] * 2

    await changes.activate("tiny", new)
    assert [version_of(models, "a") for models in two] == [new, new]


async def test_what_one_worker_cannot_load_none_keeps(two, changes, old, new, monkeypatch):
    async def refuse(model, version):
        raise LoadRefused("no room")

    fleet = Fleet(two)
    monkeypatch.setattr(two[1], "load", refuse)
    ModelChanges(two[1], fleet.workers[1])
    changes = ModelChanges(two[0], fleet)

    with pytest.raises(LoadRefused, match=r"^1 of 2 workers: no room$"):
        await changes.load("tiny", new)

    assert [sorted(loaded(models)) for models in two] == [[old], [old]]


async def test_what_one_worker_has_not_loaded_none_activates(two, changes, old, new):
    await two[0].load("tiny", new)

    with pytest.raises(VersionNotLoaded, match=f"^1 of 2 workers: tiny@{new} is not loaded"):
        await changes.activate("tiny", new)

    assert [version_of(models, "a") for models in two] == [old, old]
    assert two[0].activations.version("tiny") is None


async def test_a_change_beside_another_one_is_refused(two, changes, new):
    with two[1].activations.changing():
        for change in (changes.load, changes.activate, changes.unload):
            with pytest.raises(ChangeUnderWay):
                await change("tiny", new)


async def test_who_forgets_to_let_go_does_not_keep_the_memory(models, new, monkeypatch, caplog):
    """Longer than a request can take, nobody needs the old version any more."""
    monkeypatch.setattr("service.deployments.leaving.LONGEST_REQUEST_S", 0.01)
    held = models.deployments["a"]
    await models.load("tiny", new)
    await models.activate("tiny", new)

    await asyncio.gather(*models._leaving)

    assert held.chains[0].engines == ()
    assert "somebody holds a deployment" in caplog.text


async def test_engines_that_are_still_being_called_are_closed_later(models, new, monkeypatch):
    monkeypatch.setattr("service.deployments.leaving.CLOSE_AGAIN_S", 0.01)
    former = models.deployments["a"].loaded
    (link,) = former.chains[0].links
    call = link.begin(now=0.0)
    await models.load("tiny", new)
    await models.activate("tiny", new)
    await asyncio.sleep(0.05)
    assert len(models._leaving) == 1

    link.end(call)
    await asyncio.gather(*models._leaving)

    assert former.close()
