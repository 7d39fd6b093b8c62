import pytest

from experiments.assignment import Assigner, Units
from experiments.definition import Experiment, Rollout, Variant
from experiments.source import ExperimentInvalid, FixedExperiments, parse_experiments

DEMO = """
[[experiment]]
key = "demo-ranker"
traffic_bp = 9000

[[experiment.variant]]
name = "popularity"
share_bp = 5000
deployment = "popularity"

[[experiment.variant]]
name = "dcn-fp32"
share_bp = 5000
deployment = "dcn-fp32"
"""


def changed(old: str, new: str) -> str:
    assert old in DEMO
    return DEMO.replace(old, new, 1)


def test_a_file_defines_experiments():
    assert parse_experiments(DEMO, where="e.toml") == (
        Experiment(
            key="demo-ranker",
            traffic_bp=9000,
            variants=(
                Variant(name="popularity", share_bp=5000, deployment="popularity"),
                Variant(name="dcn-fp32", share_bp=5000, deployment="dcn-fp32"),
            ),
        ),
    )


def test_every_field_can_be_written():
    text = changed(
        "traffic_bp = 9000",
        'salt = "s"\nhash = "m3x32-v1"\nunit = "user_or_session"\ntraffic_bp = 1\n'
        'layer = "deployment"\nlayer_range_bp = [10, 20]\nnamespace = "shop"\nholdout_bp = 3\n'
        'overrides = { u1 = "popularity" }\nphase = 4\nstate = "paused"',
    )

    (experiment,) = parse_experiments(text, where="e.toml")

    assert experiment.layer_range_bp == (10, 20)
    assert experiment.overrides == {"u1": "popularity"}
    assert (experiment.phase, experiment.state, experiment.salt) == (4, "paused", "s")


def test_what_a_rollout_needs_can_be_written():
    text = DEMO + (
        "\n[experiment.rollout]\nstages_bp = [1000, 10000]\nautomatic = true\n"
        "minimum_stage_s = 3600\nctr_margin = 0.01\n"
    )

    (experiment,) = parse_experiments(text, where="e.toml")

    assert experiment.rollout == Rollout(
        stages_bp=(1000, 10_000), automatic=True, minimum_stage_s=3600, ctr_margin=0.01
    )


def test_a_number_for_a_unit_is_the_text_that_is_written():
    text = changed("traffic_bp = 9000", 'overrides = { 0123 = "popularity" }')

    assigner = Assigner(parse_experiments(text, where="e.toml"))

    assert assigner.decide(Units("0123")).assignments[0].reason == "OVERRIDE"
    assert assigner.decide(Units("123")).assignments[0].reason != "OVERRIDE"


def test_an_empty_file_defines_none():
    assert parse_experiments("# nothing yet\n", where="e.toml") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("key = ", "Invalid value (at end of document)"),
        ("foo = 1", "unknown key `foo`"),
        ("experiment = 1", "Expected `array`, got `int` (at experiment)"),
        ("experiment = [1]", "Expected `object`, got `int` (at experiment[0])"),
        ('[experiment]\nkey = "a"', "written as [[experiment]], with two brackets"),
        ('[[experiment]]\nkey = "a"', "missing key `variant` (at experiment[0])"),
        (changed('key = "demo-ranker"\n', ""), "missing key `key` (at experiment[0])"),
        (changed("traffic_bp", "trafic_bp"), "unknown key `trafic_bp` (at experiment[0])"),
        (changed("9000", "0.9"), "Expected `int`, got `float` (at experiment[0].traffic_bp)"),
        (changed("9000", "true"), "Expected `int`, got `bool` (at experiment[0].traffic_bp)"),
        (changed("9000", "90000"), "traffic_bp must be 0 to 10000, got 90000 (at experiment[0])"),
        (
            changed("share_bp = 5000", "share_bp = 4000"),
            "experiment 'demo-ranker': the shares of its variants sum to 9000 bp, not to 10000",
        ),
        (changed("share_bp = 5000", "share = 5000"), "unknown key `share`"),
        (changed('"popularity"', '""'), "got '' (at experiment[0].variant[0])"),
        (changed("[[experiment.variant]]", "[[experiment.variants]]"), "[[experiment.variant]]"),
        (
            changed("traffic_bp = 9000", 'hash = "md5"'),
            "unknown value 'md5', not m3x32-v1 or growthbook-v1 or growthbook-v2 or flagd-v2 or "
            "flagd-v3 or unleash or eppo-md5 (at experiment[0].hash)",
        ),
        (
            changed("traffic_bp = 9000", 'unit = "item"'),
            "unknown value 'item', not user or session or user_or_session (at experiment[0].unit)",
        ),
        (
            changed("traffic_bp = 9000", 'state = "on"'),
            "unknown value 'on', not draft or running or paused or aa or stopped "
            "(at experiment[0].state)",
        ),
        (
            changed("traffic_bp = 9000", "layer_range_bp = [1]"),
            "of length 2, got 1 (at experiment[0].layer_range_bp)",
        ),
        (
            changed("traffic_bp = 9000", 'state = "promoted"'),
            "experiment 'demo-ranker': a file cannot say state = 'promoted'; "
            "`podium experiment promote` brings it about",
        ),
        (
            changed("traffic_bp = 9000", 'state = "rolled_back"'),
            "a file cannot say state = 'rolled_back'",
        ),
        (
            changed("traffic_bp = 9000", 'promoted = "dcn-fp32"'),
            "the state 'promoted' and the variant `promoted` go together",
        ),
        (
            changed("traffic_bp = 9000", 'policy = "greedy"'),
            "unknown value 'greedy', not fixed or thompson (at experiment[0].policy)",
        ),
        (
            changed("traffic_bp = 9000", "rollout = { stage_bp = [1] }"),
            "unknown key `stage_bp` (at experiment[0].rollout)",
        ),
        (
            changed("traffic_bp = 9000", "rollout = { minimum_stage_s = inf }"),
            "minimum_stage_s must be finite and at least 0, got inf (at experiment[0].rollout)",
        ),
        (
            changed("traffic_bp = 9000", "phase = 1000000001"),
            "experiment 'demo-ranker': phase must be 1 to 1000000000, got 1000000001",
        ),
        (
            changed("traffic_bp = 9000", 'targeting = [{ field = "device", op = "==" }]'),
            "experiment 'demo-ranker', targeting of 'device': '==' needs a value",
        ),
        (
            changed("traffic_bp = 9000", 'targeting = { field = "device", op = "exists" }'),
            "targeting is written as [[experiment.targeting]], with two brackets",
        ),
        (
            '[[experiment]]\nkey = "a"\n[experiment.variant]\nname = "x"',
            "variant is written as [[experiment.variant]], with two brackets",
        ),
        (
            changed("traffic_bp = 9000", "rollout = { stages_bp = [1, 2] }"),
            "stages_bp must rise from at least 1 to 10000, got [1, 2] (at experiment[0].rollout)",
        ),
        (
            changed("traffic_bp = 9000", "overrides = { 12345 = 1 }"),
            "Expected `str`, got `int` (at experiment[0].overrides[...])",
        ),
        (DEMO + DEMO, "two experiments have the key 'demo-ranker'"),
        (DEMO + changed("demo-ranker", "other"), "overlap in the layer 'deployment'"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_and_place(text, says):
    with pytest.raises(ExperimentInvalid) as refused:
        parse_experiments(text, where="e.toml")

    assert str(refused.value).startswith("e.toml: ")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.where == "e.toml"


def test_a_fixed_source_gives_the_same_compiled_set_every_time():
    source = FixedExperiments(Assigner(parse_experiments(DEMO, where="e.toml")))

    assert source.current() is source.current()
    assert source.current().decide(Units("u1")).assignments[0].key == "demo-ranker"
