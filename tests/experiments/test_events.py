import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.assignment import Assigner, Units
from experiments.comparison import Comparison
from experiments.definition import Experiment, Variant
from experiments.events import (
    Arm,
    Event,
    Exposure,
    Feedback,
    Lapse,
    arms,
    arms_of,
    unit_digest,
)

ARM = Arm("demo", 2, "fp16", unit_digest("u42"), 0.25)
EXPOSURE = Exposure(
    slate_id="01JD00000000000000000000",
    arms=(ARM,),
    at=1_763_769_600.25,
    latency_ms=4.125,
    candidates=100,
    cache_hits=87,
    cache_misses=13,
    cache_result="partial",
    engine="onnxruntime-cpu",
    degraded=None,
    config_digest="0123456789abcdef",
    compute_ms=1.5,
    queue_ms=0.25,
    predictions=13,
    surface="home",
)
LAPSE = Lapse(arms=(ARM,), at=1_763_769_600.25, code="queue_full", latency_ms=0.5, surface="home")
CLICK = Feedback(
    event_id="e-1",
    kind="click",
    slate_id="01JD00000000000000000000",
    item_id="i9",
    position=3,
    at=1_763_769_610.0,
    arms=(ARM,),
    team="fp16",
    exposed_at=1_763_769_600.0,
)
COMPARISON = Comparison(
    experiment="demo",
    phase=2,
    variant="fp16",
    reference="fp32",
    at=1_763_769_600.25,
    overlap=0.95,
    kendall_tau=0.9,
    drift_max=0.001,
    drift_mean=0.0001,
    latency_ms=1.5,
    reference_latency_ms=3.0,
    unit=unit_digest("u42"),
)


@pytest.mark.parametrize("event", [EXPOSURE, LAPSE, CLICK, COMPARISON])
def test_an_event_comes_back_from_the_stream_as_it_was(event):
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=Event) == event


def test_events_are_small():
    assert len(msgspec.msgpack.encode(EXPOSURE)) < 180
    assert len(msgspec.msgpack.encode(CLICK)) < 130
    assert len(msgspec.msgpack.encode(LAPSE)) < 90


def test_a_newer_writers_extra_field_does_not_disturb_an_older_reader():
    newer = [*msgspec.msgpack.decode(msgspec.msgpack.encode(EXPOSURE)), "a field of tomorrow"]

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(newer), type=Event) == EXPOSURE


def test_the_tag_and_the_order_of_fields_are_fixed():
    """Streams outlive a release: this is what is in them."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(EXPOSURE)) == [
        "exposure.1",
        "01JD00000000000000000000",
        [["demo", 2, "fp16", "3783bb1891f56b9f", 0.25]],
        1_763_769_600.25,
        4.125,
        100,
        87,
        13,
        "partial",
        "onnxruntime-cpu",
        None,
        "0123456789abcdef",
        1.5,
        0.25,
        13,
        "home",
    ]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(CLICK))[:4] == [
        "feedback.1",
        "e-1",
        "click",
        "01JD00000000000000000000",
    ]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(LAPSE)) == [
        "lapse.1",
        [["demo", 2, "fp16", "3783bb1891f56b9f", 0.25]],
        1_763_769_600.25,
        "queue_full",
        0.5,
        "home",
    ]


OLD_ARM = ["demo", 2, "fp16", "3783bb1891f56b9f"]
OLD_EXPOSURE = [
    *["exposure.1", "01JD00000000000000000000", [OLD_ARM], 1_763_769_600.25, 4.125, 100, 87, 13],
    *["partial", "onnxruntime-cpu", None, "0123456789abcdef"],
]
OLD_CLICK = ["feedback.1", "e-1", "click", "01JD00000000000000000000", "i9", 3, 1.5e9, [OLD_ARM]]


def test_what_the_first_release_wrote_is_still_read():
    """A stream may hold hours of it when a newer release starts."""
    old = msgspec.structs.replace(ARM, propensity=1.0)
    exposure = msgspec.msgpack.decode(msgspec.msgpack.encode(OLD_EXPOSURE), type=Event)
    click = msgspec.msgpack.decode(msgspec.msgpack.encode(OLD_CLICK), type=Event)

    assert (exposure.arms, exposure.latency_ms, exposure.predictions) == ((old,), 4.125, 0)
    assert (click.arms, click.team, click.late) == ((old,), None, False)


def test_the_arms_of_any_event():
    assert arms_of(EXPOSURE) == arms_of(LAPSE) == arms_of(CLICK) == (ARM,)
    assert arms_of(COMPARISON) == (Arm("demo", 2, "fp16", unit_digest("u42")),)


@pytest.mark.parametrize("latency_ms", [math.nan, math.inf, -0.001])
def test_a_latency_that_is_none_is_refused_at_the_border(latency_ms):
    with pytest.raises(ValueError, match="latency_ms must be a finite number"):
        msgspec.structs.replace(EXPOSURE, latency_ms=latency_ms)
    with pytest.raises(ValueError, match="compute_ms must be a finite number"):
        msgspec.structs.replace(EXPOSURE, compute_ms=latency_ms)
    with pytest.raises(ValueError, match="latency_ms must be a finite number"):
        msgspec.structs.replace(LAPSE, latency_ms=latency_ms)
    raw = [*OLD_EXPOSURE[:4], latency_ms, *OLD_EXPOSURE[5:]]
    with pytest.raises(msgspec.ValidationError, match="latency_ms must be a finite number"):
        msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=Event)


def test_a_digest_is_16_hex_digits_and_pinned():
    assert unit_digest("u42") == "3783bb1891f56b9f"
    assert unit_digest("Åsa") == "5f1d07b7c1a80c7a"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_digest_does_not_hold_the_id(unit):
    digest = unit_digest(unit)

    assert len(digest) == 16
    assert int(digest, 16) >= 0


def test_only_counted_assignments_become_arms():
    variants = (Variant(name="a", share_bp=5000), Variant(name="b", share_bp=5000))
    assigner = Assigner(
        [
            Experiment(key="split", variants=variants),
            Experiment(key="by-session", variants=variants, unit="session"),
            Experiment(key="outside", variants=variants),
            Experiment(key="forced", variants=variants),
            Experiment(key="pinned", variants=variants, overrides={"u1": "b"}),
            Experiment(key="off", variants=variants, state="paused"),
            Experiment(key="gated", variants=variants, traffic_bp=0),
        ]
    )
    decision = assigner.decide(Units("u1", "s1"), forced={"forced": "a"}, external={"outside": "b"})

    counted = arms(decision.assignments)

    assert [(arm.experiment, arm.unit) for arm in counted] == [
        ("split", unit_digest("u1")),
        ("by-session", unit_digest("s1")),
        ("outside", unit_digest("u1")),
    ]
    assert counted[2].variant == "b"


def test_a_request_without_unit_has_no_arms():
    variants = (Variant(name="a", share_bp=5000), Variant(name="b", share_bp=5000))
    assigner = Assigner([Experiment(key="demo", variants=variants)])

    assert arms(assigner.decide(Units(), external={"demo": "a"}).assignments) == ()
