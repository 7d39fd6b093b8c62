"""The folder of compiled plans, and what of it is damaged."""

from service.doctor.plans import plan_finding
from tests.support.tensor_rt import loaded, simulated


def test_no_plans_are_no_problem(tmp_path):
    found = plan_finding(tmp_path / "plans")

    assert (found.state, found.advice) == ("ok", "")
    assert "none in" in found.found


def test_plans_are_counted_with_their_gpu(bundle, gpu, tmp_path):
    loaded(bundle, simulated(gpu), tmp_path).close()

    found = plan_finding(tmp_path)

    assert (found.state, found.found) == ("ok", f"1 in {tmp_path}, 0.0 MiB, for Tesla T4")


def test_a_damaged_plan_is_named(bundle, gpu, tmp_path):
    loaded(bundle, simulated(gpu), tmp_path).close()
    (plan,) = tmp_path.glob("*/plan")
    plan.unlink()
    plan.write_bytes(b"short")

    found = plan_finding(tmp_path)

    assert found.state == "note"
    assert f"damaged: {plan.parent.name}" in found.found
    assert "delete them" in found.advice
