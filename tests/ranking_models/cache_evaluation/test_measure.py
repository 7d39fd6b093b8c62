"""What a mode costs is measured against exact scores, on the same rows and lists."""

import msgspec
import numpy as np
import pytest

from ranking_models.bundle import Bundle, SegmentArrays
from ranking_models.bundle.layout import segment_version
from ranking_models.cache_evaluation import read_beside, side_file, write_beside
from ranking_models.cache_evaluation.lists import CacheEvidence, Lists
from ranking_models.cache_evaluation.measure import CacheOptions, evaluate_modes
from ranking_models.cache_evaluation.modes import rescored, segment_scorer
from ranking_models.cache_evaluation.text import advice, render_text
from ranking_models.cache_evaluation.users import NOBODY, positions_of, with_columns
from ranking_models.errors import InputError
from ranking_models.joining import Tables
from ranking_models.manifest import Interval, ModeCost, Segments
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.segments import segment_scores
from tests.support.bundles import write_tiny_segmented_bundle

OPTIONS = CacheOptions(top=(5, 20), candidates=20, resamples=100, k=5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.open(write_tiny_segmented_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def scorer(bundle):
    return onnx_runtime_scorer(bundle.graph("fp32"))


@pytest.fixture(scope="module")
def tables(bundle):
    return Tables(schema=bundle.schema, users=bundle.users, items=bundle.items)


@pytest.fixture(scope="module")
def evidence(bundle, tables, scorer):
    """Clicks as the model itself expects them."""
    random = np.random.default_rng(0)
    users, items = random.integers(0, 20, 600), random.integers(0, 50, 600)
    rows = tables.join(users, items)
    return CacheEvidence(
        schema=bundle.schema,
        users=bundle.users,
        items=bundle.items,
        rows=rows,
        labels=(random.random(600) < scorer(rows)).astype(np.float64),
        units=users.astype(np.intp),
        words="drawn by the model",
    )


@pytest.fixture(scope="module")
def found(evidence, scorer, bundle):
    return evaluated(evidence, scorer, bundle.segments)


def evaluated(evidence, scorer, *segmentations, options=OPTIONS):
    return evaluate_modes(
        scorer, evidence, segmentations, model="tiny@1", precision="fp32", options=options
    )


def one_each(users: int) -> SegmentArrays:
    """A segment for each user, who speaks for it alone."""
    of_user = np.arange(1, users + 1, dtype=np.int32)
    speakers = np.arange(-1, users, dtype=np.int32)[:, None]
    figures = Segments(count=users + 1, version=segment_version(of_user), probes=1, explained=1.0)
    return SegmentArrays(
        users=of_user, representatives=speakers, scores=np.zeros((1, users + 1)), figures=figures
    )


def test_every_mode_is_there_with_what_it_saves(found):
    modes = [(m.mode, m.segments, m.top, m.rows_saved) for m in found.modes]

    assert modes == [
        ("exact", None, None, 0.0),
        ("segment", 5, None, 1.0),
        ("segment_rescore", 5, 5, 0.75),
        ("segment_rescore", 5, 20, 0.0),
    ]
    assert (found.users, found.known_users) == (20, 20)


def test_an_auc_of_rows_is_no_figure_of_a_mode_that_orders_requests(found):
    """A user's held-out rows are fewer than a request's: all would be scored exactly."""
    rescore = found.modes[2]

    assert {"auc", "gauc", "ndcg_rows"}.isdisjoint(rescore.figures)
    assert {"list_auc", "ndcg", "overlap"} <= rescore.figures.keys()
    assert {"auc", "list_auc", "ndcg", "overlap"} <= found.modes[1].figures.keys()


def test_no_fewer_are_scored_exactly_than_a_slate_has(evidence, scorer, bundle):
    options = msgspec.structs.replace(OPTIONS, top=(1, 3, 8))

    modes = evaluated(evidence, scorer, bundle.segments, options=options).modes[2:]

    assert [(mode.top, mode.rows_saved) for mode in modes] == [(5, 0.75), (8, 0.6)]


def test_lists_hold_the_click_once_and_distinct_items(evidence):
    lists = Lists(evidence, candidates=50, seed=3)
    clicked = evidence.rows.take(lists.rows_of_clicks).ids[:, 1]
    of_table = evidence.items.take(lists.others.reshape(-1)).ids[:, 0]

    assert lists.others.shape == (len(clicked), 49)  # all other items there are
    assert all(len(set(line)) == 49 for line in lists.others.tolist())
    others = of_table.reshape(lists.others.shape)
    assert not (others == clicked[:, None]).any()


def test_figures_are_what_counting_by_hand_gives(evidence, scorer, found):
    """The metrics of exact scores, list by list, without the code that measures them."""
    lists = Lists(evidence, candidates=20, seed=0)
    gains, areas = [], []
    for click, others in zip(lists.rows_of_clicks, lists.others, strict=True):
        row = evidence.rows.take(np.array([click]))
        beside = with_columns(
            evidence.schema, row.take(np.zeros(19, np.intp)), "item", evidence.items.take(others)
        )
        (own,), theirs = scorer(row), scorer(beside)
        places = range((theirs > own).sum(), (theirs >= own).sum() + 1)
        gains.append(np.mean([1 / np.log2(place + 2) if place < 5 else 0 for place in places]))
        areas.append(((theirs < own).sum() + (theirs == own).sum() / 2) / 19)

    exact = found.modes[0].figures

    assert exact["ndcg"].value == pytest.approx(np.mean(gains), abs=1e-12)
    assert exact["list_auc"].value == pytest.approx(np.mean(areas), abs=1e-12)
    positive, negative = (scorer(evidence.rows)[evidence.labels == label] for label in (1, 0))
    above = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    assert exact["auc"].value == pytest.approx(above, abs=1e-12)


def test_who_rescores_everything_loses_nothing_at_all(found):
    whole = found.modes[-1]

    for name in ("ndcg", "hit_rate"):
        change = whole.change[name]
        assert (change.value, change.low, change.high) == (0, 0, 0)
    assert whole.figures["overlap"].value == 1


def test_segments_cost_order_and_rescoring_brings_it_back(evidence, bundle):
    """Of a model whose users differ in their order; in the linear one they do not."""

    def by_taste(rows):
        user, item = rows.ids[:, 0].astype(np.float64), rows.ids[:, 1]
        return (0.5 + 0.4 * np.sin(user * item)).astype(np.float32)

    found = evaluated(evidence, by_taste, bundle.segments)
    _, segment, some, whole = (mode.figures["overlap"].value for mode in found.modes)

    assert segment <= some <= whole
    assert segment < 1


def test_a_segment_for_every_user_costs_what_rounding_costs(evidence, scorer):
    segment = evaluated(evidence, scorer, one_each(20)).modes[1]

    assert segment.figures["overlap"].value > 0.99
    assert abs(segment.change["auc"].value) < 1e-3


def test_a_segments_scores_are_those_of_the_bundles_recipe(bundle, tables, scorer, evidence):
    recipe = segment_scores(scorer, tables, bundle.segments.representatives)
    score = segment_scorer(scorer, bundle.schema, bundle.users, bundle.segments)
    users, items = np.array([3, 8, NOBODY]), np.array([7, 7, 9])

    scores = score(tables.join(users, items), users)

    segments = [bundle.segments.users[3], bundle.segments.users[8], 0]
    assert scores == pytest.approx(recipe[items, segments], abs=7e-5)


def test_users_are_recognised_by_what_the_model_reads_of_them(bundle, tables):
    users = np.array([4, NOBODY, 19])

    assert positions_of(bundle.schema, tables.join(users, users), bundle.users).tolist() == [
        4,
        NOBODY,
        19,
    ]


def test_the_first_of_each_list_come_first_by_their_exact_scores():
    exact = np.array([[0.1, 0.5, 0.9], [0.3, 0.2, 0.1]])
    coarse = np.array([[0.8, 0.7, 0.1], [0.2, 0.9, 0.1]])

    scores = rescored(exact, coarse, top=2)

    assert np.argsort(-scores).tolist() == [[1, 0, 2], [0, 1, 2]]
    assert scores[:, :2].tolist() == exact[:, :2].tolist()


def test_rows_of_one_class_say_nothing(evidence, scorer, bundle):
    clicks = msgspec.structs.replace(evidence, labels=np.ones(600))

    with pytest.raises(InputError, match="all labels are 1"):
        evaluated(clicks, scorer, bundle.segments)


def test_lists_longer_than_the_catalogue_are_refused(evidence, scorer, bundle):
    with pytest.raises(InputError, match="50 items"):
        evaluated(evidence, scorer, bundle.segments, options=CacheOptions(candidates=100))


def test_the_table_has_a_line_for_every_mode(found):
    lines = render_text(found).splitlines()

    assert [line.split()[0] for line in lines[-6:-2]] == [mode.mode for mode in found.modes]
    assert "95 % intervals" in render_text(found)


def cost(mode, low, saved, top=None, segments=16):
    change = {"ndcg": Interval(value=0.0, low=low, high=0.01)}
    figures = {"ndcg": Interval(value=0.4, low=0.3, high=0.5)}
    return ModeCost(
        mode=mode, segments=segments, top=top, rows_saved=saved, figures=figures, change=change
    )


def test_who_saves_most_of_those_that_keep_the_order_is_advised():
    exact = msgspec.structs.replace(cost("exact", 0, 0.0), change={})
    wild, some = cost("segment", -0.005, 1.0), cost("segment_rescore", -0.003, 0.7, top=30)
    more = cost("segment_rescore", -0.0001, 0.5, top=50)

    chosen = advice((exact, wild, some, more), k=10)

    assert 'cache = "segment_rescore", rescore_top = 30, 70% of the rows saved' in chosen
    finer = cost("segment", -0.001, 1.0, segments=64)
    assert 'cache = "segment" with 64 segments, 100%' in advice((exact, some, finer), k=10)
    assert "stay with exact" in advice((exact, wild), k=10)
    assert "stay with exact" in advice((exact,), k=10)


def test_figures_are_kept_beside_the_bundle_and_never_in_it(bundle, found):
    before = sorted(bundle.path.rglob("*"))

    file = write_beside(bundle.path, found)

    assert file.parent == bundle.path.parent
    assert sorted(bundle.path.rglob("*")) == before
    assert read_beside(bundle.path, "tiny@1") == found
    assert read_beside(bundle.path, "tiny@2") is None
    file.write_bytes(b"{")
    assert read_beside(bundle.path, "tiny@1") is None
    file.unlink()
    assert read_beside(bundle.path, "tiny@1") is None
    assert side_file(bundle.path) == file
