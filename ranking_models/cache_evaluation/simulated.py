"""The held-out rows of the simulated marketplace, made anew for a bundle that was trained on it.

A simulation is the same to the bit wherever it runs, so nobody needs the log: what the manifest
says of its data gives the sizes, and the seeds are those of ``podium simulate``. What comes out
must be what the manifest and the bundle's tables say, or nothing is measured on it. Needs no
pyarrow, which serving does not install.
"""

import tomllib
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.cache_evaluation.lists import CacheEvidence
from ranking_models.cache_evaluation.users import Places, with_columns
from ranking_models.errors import InputError
from ranking_models.joining import Tables
from ranking_models.log_figures import rfc3339
from ranking_models.manifest import DataSource, ModelManifest
from ranking_models.marketplace import ANONYMOUS, ClickLog, Marketplace, MarketplaceSpec
from ranking_models.marketplace.files import SCHEMA
from ranking_models.marketplace.names import item_id, seller_id, user_id
from ranking_models.marketplace.population import Population
from ranking_models.marketplace.spec import (
    AGE_GROUPS,
    CATEGORIES,
    COUNTRIES,
    DEVICES,
    LOG_SEED,
    LONGEST_SLATE,
    SEGMENTS,
    SURFACES,
    TAGS,
)
from ranking_models.recipes import DEMONSTRATION
from ranking_models.schema import Encoder, FeatureBatch, FeatureValue, Source
from ranking_models.split import HELD_OUT_ROWS, SPLIT_WORDS, SplitName, drawn, global_, per_user

MOST_SESSIONS = 1_000_000
"""As many as ``podium simulate`` writes."""
_DECLARED = tomllib.loads(SCHEMA)
_ROUNDING = 1e-5
"""Of encoded numbers, from one machine to another."""

_Raw = dict[str, FeatureValue]


class NotSimulated(InputError):
    """A bundle whose held-out rows cannot be made anew; says why."""


class Simulation(Struct, frozen=True, kw_only=True):
    """What a bundle's log follows from, and what of it the training held out."""

    spec: MarketplaceSpec
    sessions: int
    split: SplitName


def simulation_of(manifest: ModelManifest) -> Simulation:
    """The simulation that a manifest describes, before it is held against it.

    Raises:
        NotSimulated: it was made from something else, or says not what was held out.
    """
    data, split = manifest.data, manifest.quality.split
    if (data.name, data.licence) != (_DECLARED["name"], _DECLARED["licence"]):
        raise NotSimulated(f"its data, {data.name!r}, cannot be made anew")
    if manifest.lineage is not None:
        parent = manifest.lineage.parent
        raise NotSimulated(f"it was made from {parent}, and says not what that held out")
    splits: dict[str, SplitName] = {words: name for name, words in SPLIT_WORDS.items()}
    if split not in splits:
        raise NotSimulated(f"its training held out no rows that can be told: {split!r}")
    sessions, left = divmod(data.interactions, LONGEST_SLATE)
    try:
        spec = msgspec.convert({"items": data.items, "users": data.users}, MarketplaceSpec)
    except msgspec.ValidationError:
        spec = None
    if spec is None or left or not 1 <= sessions <= MOST_SESSIONS:
        raise NotSimulated("its log is none that podium simulate writes")
    return Simulation(spec=spec, sessions=sessions, split=splits[split])


def simulated_evidence(bundle: Bundle, simulation: Simulation) -> CacheEvidence:
    """Simulate the log again and take rows that the training held out, at most 20,000.

    For the demonstration these are the rows that its manifest's figures are from.

    Raises:
        InputError: the log is not the one that the bundle says it was made from.
    """
    marketplace = Marketplace.generate(simulation.spec)
    log = marketplace.log(sessions=simulation.sessions, seed=LOG_SEED)
    _check_data(bundle, _data_of(marketplace.population, log))
    _check_features(bundle)
    _check_tables(bundle, marketplace.population)
    test, words = _held_out(log, simulation)
    units = _units(log, simulation.spec.users)
    _check_held_out(bundle, test, units)
    of = "some of the " if len(test) > HELD_OUT_ROWS else ""
    rows = drawn(test, HELD_OUT_ROWS, seed=DEMONSTRATION.options.seed)
    return CacheEvidence(
        schema=bundle.schema,
        users=bundle.users,
        items=bundle.items,
        rows=_encoded(bundle, log, rows),
        labels=log.clicked[rows].astype(np.float64),
        units=units[rows],
        words=f"{_DECLARED['name']} made anew: {of}{words}, which the training held out",
    )


def _data_of(population: Population, log: ClickLog) -> DataSource:
    return DataSource(
        name=_DECLARED["name"],
        licence=_DECLARED["licence"],
        interactions=len(log),
        users=len(population.users.segment),
        items=len(population.items.seller),
        first_event=rfc3339(float(log.second.min())),
        last_event=rfc3339(float(log.second.max())),
    )


def _check_data(bundle: Bundle, made: DataSource) -> None:
    says, found = msgspec.structs.asdict(bundle.manifest.data), msgspec.structs.asdict(made)
    other = [name for name in says if says[name] != found[name]]
    if other:
        name = other[0]
        raise _other_log(bundle, f"its {name} is {says[name]}, simulated anew it is {found[name]}")


def _check_features(bundle: Bundle) -> None:
    declared = {f["name"]: (f["source"], f["kind"]) for f in _DECLARED["features"]}
    for spec in bundle.schema.features:
        if declared.get(spec.name) != (spec.source, spec.kind):
            what = f"{spec.source} {spec.kind} feature {spec.name!r}"
            raise _other_log(bundle, f"the simulation has no {what}")


def _check_tables(bundle: Bundle, population: Population) -> None:
    """Another seed makes other items and users of the same number."""
    tables: tuple[tuple[Source, FeatureBatch, list[_Raw]], ...] = (
        ("item", bundle.items, _items(population)),
        ("user", bundle.users, _users(population)),
    )
    for source, table, raw in tables:
        encoded = Encoder(bundle.schema.of(source)).encode_rows(raw).inputs()
        for name, values in table.inputs().items():
            if values.shape != encoded[name].shape or not np.allclose(
                values, encoded[name], rtol=0.0, atol=_ROUNDING
            ):
                raise _other_log(bundle, f"its {source}s are others than those simulated anew")


def _check_held_out(bundle: Bundle, test: Places, units: Places) -> None:
    quality = bundle.manifest.quality
    found = (len(test), len(np.unique(units[test])))
    if found != (quality.rows, quality.users):
        raise _other_log(
            bundle,
            f"its training held out {quality.rows:,} rows of {quality.users:,} users, "
            f"of the log simulated anew these are {found[0]:,} of {found[1]:,}",
        )


def _other_log(bundle: Bundle, reason: str) -> InputError:
    return InputError(
        f"{bundle.path}: was made from another simulation than that of podium simulate with "
        f"these sizes: {reason}; name the rows, either --data DIR or --run DIR"
    )


def _held_out(log: ClickLog, simulation: Simulation) -> tuple[Places, str]:
    seconds, users = log.second.astype(np.float64), simulation.spec.users
    if simulation.split == "global":
        parts = global_(seconds)
    else:
        user = np.where(log.user == ANONYMOUS, users, log.user).astype(np.int32)
        parts = per_user(user, seconds, users=users)
    return parts.test, parts.description


def _units(log: ClickLog, users: int) -> Places:
    """Who it was: the user, else the session, numbered as a log that is read numbers them."""
    anonymous = log.user == ANONYMOUS
    return np.where(anonymous, users + log.session, log.user).astype(np.intp)


def _encoded(bundle: Bundle, log: ClickLog, rows: Places) -> FeatureBatch:
    """Rows of the log as the model takes them; anonymous visitors are the missing user."""
    schema = bundle.schema
    tables = Tables(schema=schema, users=bundle.users, items=bundle.items)
    joined = tables.join(log.user[rows], log.item[rows])
    context = log.context.map(lambda values: values[rows])
    codes: npt.NDArray[Any] = np.stack(
        [context.device, context.country, context.hour, context.surface, log.position[rows]], axis=1
    )
    distinct, of_row = np.unique(codes, axis=0, return_inverse=True)
    raw: list[_Raw] = [
        {
            "device": DEVICES[device],
            "country": COUNTRIES[country],
            "hour": hour,
            "surface": SURFACES[surface],
            "position": position,
        }
        for device, country, hour, surface, position in distinct.tolist()
    ]
    encoded = Encoder(schema.of("context")).encode_rows(raw).take(of_row.reshape(-1))
    return with_columns(schema, joined, "context", encoded)


def _items(population: Population) -> list[_Raw]:
    items = population.items
    return [
        {
            "item_id": item_id(at),
            "seller": seller_id(int(items.seller[at])),
            "category": CATEGORIES[items.category[at]],
            "price": float(items.price[at]) / 100.0,
            "rating": float(items.rating[at]),
            "age_days": float(items.age_days[at]),
            "tags": [TAGS[tag] for tag in items.tags[at].tolist() if tag >= 0],
        }
        for at in range(len(items.seller))
    ]


def _users(population: Population) -> list[_Raw]:
    users = population.users
    return [
        {
            "user_id": user_id(at),
            "segment": SEGMENTS[users.segment[at]],
            "age_group": AGE_GROUPS[users.age_group[at]],
            "price_preference": float(users.price_preference[at]),
        }
        for at in range(len(users.segment))
    ]
