"""A bundle read back is what was written, so that a new version can be made from it."""

from datetime import UTC, datetime

import numpy as np
from msgspec.structs import replace

from ranking_models.bundle import Bundle, SegmentArrays, SplitGraphs, write_bundle
from ranking_models.bundle.layout import segment_version
from ranking_models.bundle.rewriting import contents_of
from ranking_models.gates import gate, thresholds_for
from ranking_models.manifest import ExactSplit, LayerSensitivity, Lineage, Quantisation, Segments
from tests.support.bundles import tiny_contents
from tests.support.gated import evidence, random_weights, sound_figures

FULL = tiny_contents(users=20)


def full_contents():
    """With every optional part."""
    fp32 = FULL.graphs["fp32"]
    verdict = gate(
        replace(sound_figures(), kendall_tau=0.5),
        thresholds_for("int8"),
        reference="fp32",
        evidence=evidence(random_weights(), rows=300),
    )
    quantisation = Quantisation(
        activations="u8",
        calibration="min and max",
        calibration_rows=300,
        kept_precision="fp32",
        layers=(LayerSensitivity(layer="head", mean_difference=0.01, kept=True),),
    )
    int8 = replace(
        fp32, tolerance=0.03, parity=0.01, gate=replace(verdict, forced=True),
        quantisation=quantisation, embedding_rows="int8",
    )  # fmt: skip
    of_user = (np.arange(20) % 3).astype(np.int32)
    segments = SegmentArrays(
        users=of_user,
        representatives=np.array([[-1], [1], [2]], np.int32),
        scores=np.full((50, 3), 0.25, np.float32),
        figures=Segments(count=3, version=segment_version(of_user), probes=9, explained=0.5),
    )
    split = ExactSplit(
        user_width=4, item_width=5, parity=1e-7, factored=("mlp.0",), whole=("head",)
    )
    return replace(
        FULL,
        graphs={"fp32": fp32, "int8-cpu": int8},
        lineage=Lineage(method="continued", parent="old@1", options={"epochs": 2}),
        split=SplitGraphs(user=b"user", item=b"item", row=b"row", figures=split),
        segments=segments,
    )


def test_what_is_read_back_is_written_as_the_same_version(tmp_path):
    path = write_bundle(tmp_path / "a", full_contents())

    again = write_bundle(tmp_path / "b", contents_of(Bundle.open(path)))

    assert again.name == path.name
    assert Bundle.open(again).manifest == Bundle.open(path).manifest
    for file in (f for f in path.rglob("*") if f.is_file()):
        assert (again / file.relative_to(path)).read_bytes() == file.read_bytes()


def test_a_part_that_is_replaced_makes_a_version_beside_it(tmp_path):
    path = write_bundle(tmp_path, full_contents())
    contents = contents_of(Bundle.open(path))

    later = replace(
        contents,
        created=datetime(2026, 12, 1, tzinfo=UTC),
        graphs={"fp32": contents.graphs["fp32"]},
        split=None,
    )
    made = write_bundle(tmp_path, later)

    assert made.parent == path.parent
    assert made != path
    assert set(Bundle.open(made).manifest.precisions) == {"fp32"}
    assert Bundle.open(made).manifest.segments == Bundle.open(path).manifest.segments
    Bundle.open(path)


def test_a_bundle_without_optional_parts_comes_back_without_them(tmp_path):
    contents = contents_of(Bundle.open(write_bundle(tmp_path, tiny_contents())))

    assert (contents.split, contents.segments, contents.lineage) == (None, None, None)
    assert contents.graphs == tiny_contents().graphs
