"""Rules hold or fail; they never raise, and nonsense is refused when it is loaded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.assignment import Assigner, Units
from experiments.definition import Experiment, Variant
from experiments.source import ExperimentInvalid, parse_experiments
from experiments.targeting import Rule, compiled

HALVES = (Variant(name="a", share_bp=5000), Variant(name="b", share_bp=5000))


def fits(field, op, value=True, **context) -> bool:
    return compiled(Rule(field, op, value))(context)


@pytest.mark.parametrize(
    ("op", "value", "given", "expected"),
    [
        ("==", "SE", "SE", True),
        ("==", "SE", "se", False),
        ("==", 3, 3, True),
        ("==", 3, 3.0, True),
        ("==", True, True, True),
        ("!=", "SE", "NO", True),
        ("!=", "SE", "SE", False),
        ("!=", 3, 4, True),
        ("in", ("SE", "NO"), "NO", True),
        ("in", ("SE", "NO"), "DK", False),
        ("in", (1, "SE"), 1, True),
        ("not_in", ("SE", "NO"), "DK", True),
        ("not_in", ("SE", "NO"), "SE", False),
        ("<", 12, 11, True),
        ("<", 12, 12, False),
        ("<=", 12, 12, True),
        (">", 12, 12.5, True),
        (">", 12, 12, False),
        (">=", 12.5, 12.5, True),
        ("starts_with", "mail/", "mail/weekly", True),
        ("starts_with", "mail/", "email/", False),
        ("exists", True, "", True),
        ("exists", True, 0, True),
        ("exists", False, 0, False),
    ],
)
def test_a_rule_compares_what_the_request_says(op, value, given, expected):
    assert fits("x", op, value, x=given) is expected


@pytest.mark.parametrize(
    ("op", "value", "given"),
    [
        ("==", "3", 3),
        ("==", 3, "3"),
        ("==", 1, True),
        ("==", True, 1),
        ("==", 0, False),
        ("!=", "SE", 3),  # another type is not another country
        ("!=", 1, True),
        ("not_in", ("SE",), 3),
        ("in", (1, 2), True),
        ("<", 12, "11"),
        ("<", 12, True),
        (">=", 0, False),
        ("<", 12, float("nan")),
        ("starts_with", "1", 12),
        ("==", "a", {"a": 1}),
        ("in", ("a",), {"a"}),
    ],
)
def test_a_value_of_another_type_fails_the_rule(op, value, given):
    assert fits("x", op, value, x=given) is False


@pytest.mark.parametrize(
    ("op", "value"),
    [
        ("==", "SE"),
        ("!=", "SE"),
        ("in", ("SE",)),
        ("not_in", ("SE",)),
        ("<", 1),
        (">=", -1),
        ("starts_with", "S"),
        ("exists", True),
    ],
)
def test_a_field_that_is_not_there_fails_every_rule_but_that_it_is_not_there(op, value):
    assert fits("x", op, value) is False
    assert fits("x", op, value, x=None) is False
    assert fits("x", "exists", False)
    assert fits("x", "exists", False, x=None)


@pytest.mark.parametrize(
    ("op", "value", "given", "expected"),
    [
        ("==", "a", ["b", "a"], True),
        ("in", ("a", "c"), ["b", "c"], True),
        ("in", ("a", "c"), ["b"], False),
        ("!=", "a", ["b", "c"], True),
        ("!=", "a", ["b", "a"], False),
        ("not_in", ("a",), ["b", "a"], False),
        (">", 3, [1, 5], True),
        (">", 3, ["5"], False),
        ("starts_with", "a", ["ba", "ab"], True),
        ("==", "a", [], False),
        ("!=", "a", [], False),
        ("exists", True, [], True),
    ],
)
def test_of_a_list_one_value_is_enough_but_none_may_be_what_is_excluded(op, value, given, expected):
    assert fits("x", op, value, x=given) is expected


values = st.one_of(st.text(), st.integers(), st.floats(), st.booleans())
anything = st.one_of(values, st.none(), st.lists(values), st.dictionaries(st.text(), values))


@given(
    st.sampled_from(["==", "!=", "in", "not_in", "<", "<=", ">", ">=", "starts_with", "exists"]),
    values,
    anything,
)
def test_no_value_makes_a_rule_raise(op, value, said):
    try:
        rule = Rule("x", op, (value,) if op.endswith("in") else value)
    except ValueError:
        return  # refused when it is loaded

    assert compiled(rule)({"x": said}) in (True, False)


@pytest.mark.parametrize(
    ("op", "value", "says"),
    [
        ("<", "12", "'<' needs a number, got '12'"),
        (">", True, "'>' needs a number, got True"),
        (">=", float("nan"), "nan is no number to compare with"),
        ("==", float("inf"), "inf is no number"),
        ("in", "SE", "'in' needs a list, got 'SE'"),
        ("in", (), "'in' needs 1 to 1000 values, got 0"),
        ("not_in", (), "'not_in' needs 1 to 1000 values, got 0"),
        ("in", (float("nan"),), "nan is no number"),
        ("==", ("SE",), "'==' compares with one value; a list goes with 'in'"),
        ("starts_with", 3, "'starts_with' needs text, got 3"),
        ("starts_with", "", "'starts_with' needs text, got ''"),
        ("exists", "yes", "'exists' needs true or false, got 'yes'"),
    ],
)
def test_a_rule_that_is_nonsense_is_refused(op, value, says):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Rule("x", op, value)

    assert says in str(refused.value)
    assert "'x'" in str(refused.value)


def test_a_rule_needs_a_field():
    with pytest.raises(ValueError, match="needs the name of a field"):
        Rule("", "==", "x")


FILE = """
[[experiment]]
key = "demo"
variant = [{ name = "a", share_bp = 5000 }, { name = "b", share_bp = 5000 }]

[[experiment.targeting]]
field = "country"
op = "in"
value = ["SE", "NO"]

[[experiment.targeting]]
field = "hour"
op = ">="
value = 18
"""


def test_a_file_writes_rules_as_tables_and_all_of_them_must_hold():
    assigner = Assigner(parse_experiments(FILE, where="e.toml"))

    def reason(**context) -> str:
        return assigner.decide(Units("u1"), context=context).assignments[0].reason

    assert reason(country="NO", hour=18) == "SPLIT"
    assert reason(country="NO", hour=17) == "NOT_TARGETED"
    assert reason(country="DK", hour=18) == "NOT_TARGETED"
    assert reason() == "NOT_TARGETED"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('op = ">="', 'op = "=>"', "unknown value '=>', not == or != or in or not_in"),
        ('op = ">="', 'op = ">="\nwhen = 1', "unknown key `when` (at experiment[0].targeting[1])"),
        ("value = 18", 'value = "18"', "targeting of 'hour': '>=' needs a number, got '18'"),
        ('value = ["SE", "NO"]', "value = []", "needs 1 to 1000 values, got 0"),
        ('value = ["SE", "NO"]', "value = [[1]]", "got `array` (at experiment[0].targeting[0]"),
        ("value = 18", "value = { a = 1 }", "got `object` (at experiment[0].targeting[1].value)"),
        ('field = "hour"\n', "", "missing key `field` (at experiment[0].targeting[1])"),
    ],
)
def test_a_wrong_rule_in_a_file_is_one_line_that_names_the_place(old, new, says):
    assert old in FILE
    with pytest.raises(ExperimentInvalid) as refused:
        parse_experiments(FILE.replace(old, new, 1), where="e.toml")

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_who_is_not_meant_is_not_touched_and_the_context_of_nobody_is_empty():
    e = Experiment(key="demo", variants=HALVES, targeting=(Rule("device", "==", "phone"),))

    (assignment,) = Assigner([e]).decide(Units("u1")).assignments

    assert (assignment.reason, assignment.deployment, assignment.counts) == (
        "NOT_TARGETED",
        None,
        False,
    )
