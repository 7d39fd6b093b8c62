"""OFREP over HTTP: any OpenFeature SDK reads the split that rankings use.

What replies must hold is checked against the protocol's document (open-feature/protocol,
service/openapi.yaml, version 0.3.0), written here as rules: taken literally its schema
refuses every flag with a value, since its `codeDefaultFlag` has no condition and so is
always a second match of a `oneOf`.
"""

import asyncio
import hashlib
import time

import httpx
import pytest
from litestar import Litestar
from litestar.di import Provide

from service.api.access import Access
from service.api.ofrep import evaluate_flag
from service.api.problems import HANDLERS
from service.settings import AuthSettings
from tests.e2e.test_experiment import published_variant
from tests.e2e.test_keys import BACKEND, KEYS, READER
from tests.support.server import EXPERIMENTS, SETTINGS, serving

FLAGS = "/ofrep/v1/evaluate/flags"
REASONS = {"STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"}
FAILURES = {"PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL"}
SESSIONS_AND_RULES = """
[[experiment]]
key = "by-session"
unit = "session"
[[experiment.variant]]
name = "calm"
share_bp = 5000
[[experiment.variant]]
name = "bold"
share_bp = 5000
[[experiment]]
key = "phones"
state = "aa"
[[experiment.targeting]]
field = "device"
op = "=="
value = "phone"
[[experiment.variant]]
name = "0"
share_bp = 0
[[experiment.variant]]
name = "other"
share_bp = 10000
[[experiment]]
key = "asleep"
state = "paused"
[[experiment.variant]]
name = "off"
share_bp = 5000
[[experiment.variant]]
name = "on"
share_bp = 5000
"""


@pytest.fixture(scope="module")
def flags():
    with serving(experiments=EXPERIMENTS + SESSIONS_AND_RULES) as running:
        yield running


def evaluate(server, key, context, **headers):
    return server.client.post(f"{FLAGS}/{key}", json={"context": context}, headers=headers)


def evaluate_all(server, context, **headers):
    return server.client.post(FLAGS, json={"context": context}, headers=headers)


def check_success(body):
    assert set(body) == {"key", "value", "variant", "reason", "metadata"}
    assert isinstance(body["key"], str)
    assert isinstance(body["variant"], str)
    assert isinstance(body["value"], str)
    assert body["reason"] in REASONS
    assert all(isinstance(value, bool | str | int | float) for value in body["metadata"].values())


def check_failure(body):
    assert isinstance(body["key"], str)
    assert body["errorCode"] in FAILURES
    assert isinstance(body["errorDetails"], str)
    assert set(body) == {"key", "errorCode", "errorDetails"}


def test_a_flag_is_the_variant_that_rankings_get(flags):
    for unit in ["u1", "u2", "u3", "Ünï", "12345"]:
        answer = evaluate(flags, "model", {"targetingKey": unit, "anything": {"deep": 1}})
        ranked = flags.rank(user={"id": unit}, candidates=["i1"]).json()["experiments"]

        assert answer.status_code == 200
        body = answer.json()
        check_success(body)
        assert body["variant"] == body["value"] == published_variant(unit)
        assert ("model", body["variant"]) in {(e["key"], e["variant"]) for e in ranked}
        assert (body["reason"], body["metadata"]["reason"]) == ("SPLIT", "SPLIT")
        assert body["metadata"]["deployment"] == body["variant"]


def test_reading_a_flag_is_no_exposure(flags):
    for n in range(20):
        evaluate(flags, "by-session", {"session_id": f"looks {n}"})
        evaluate_all(flags, {"session_id": f"looks {n}"})
    flags.rank(session_id="sees a slate", candidates=["i1"])

    # The slate came last: once it is counted, whatever came before would be.
    deadline = time.monotonic() + 30
    counted = 0
    while not counted and time.monotonic() < deadline:
        report = flags.client.get("/v1/experiments/by-session/report").json()
        counted = sum(variant["exposures"] for variant in report["variants"])
        time.sleep(0.05)
    assert counted == 1


def test_a_session_is_the_unit_where_the_experiment_says_so(flags):
    with_session = evaluate(flags, "by-session", {"session_id": "s-1"})
    without = evaluate(flags, "by-session", {"targetingKey": "u1"})

    assert with_session.json()["variant"] in ("calm", "bold")
    assert without.status_code == 400
    check_failure(without.json())
    assert without.json()["errorCode"] == "TARGETING_KEY_MISSING"


def test_the_context_decides_whom_an_experiment_is_for_and_an_aa_phase_serves_all_alike(flags):
    phone = evaluate(flags, "phones", {"targetingKey": "u1", "device": "phone"}).json()
    desk = evaluate(flags, "phones", {"targetingKey": "u1", "device": "desk"}).json()

    assert (phone["variant"], phone["value"], phone["reason"]) == ("other", "0", "SPLIT")
    assert (desk["variant"], desk["value"], desk["reason"]) == ("0", "0", "UNKNOWN")
    assert desk["metadata"]["reason"] == "NOT_TARGETED"


def test_all_flags_come_at_once_each_with_its_own_answer(flags):
    answer = evaluate_all(flags, {"targetingKey": "u1"})

    assert answer.status_code == 200
    body = answer.json()
    found = {one["key"]: one for one in body["flags"]}
    assert list(found) == ["model", "by-session", "phones", "asleep"]
    for key in ("model", "phones", "asleep"):
        check_success(found[key])
    check_failure(found["by-session"])
    assert (found["asleep"]["reason"], found["asleep"]["variant"]) == ("DISABLED", "off")
    assert found["model"] == evaluate(flags, "model", {"targetingKey": "u1"}).json()


@pytest.mark.parametrize("wrapped", ["{}", "W/{}", '"other", {}'])
def test_who_has_the_answer_already_gets_304(flags, wrapped):
    context = {"targetingKey": "u1", "device": "phone"}
    first = evaluate_all(flags, context)

    again = evaluate_all(flags, context, **{"If-None-Match": wrapped.format(first.headers["etag"])})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


def test_another_context_and_another_definition_are_another_answer(flags):
    tag = evaluate_all(flags, {"targetingKey": "u1", "device": "phone"}).headers["etag"]
    asked = {"If-None-Match": tag}
    other_context = evaluate_all(flags, {"targetingKey": "u1", "device": "desk"}, **asked)
    with serving(
        experiments=EXPERIMENTS + SESSIONS_AND_RULES + "[[experiment.targeting]]\n"
        'field = "device"\nop = "exists"\n'
    ) as changed:
        other_definition = evaluate_all(changed, {"targetingKey": "u1", "device": "phone"}, **asked)

    assert other_context.status_code == 200
    assert other_definition.status_code == 200
    assert len({tag, other_context.headers["etag"], other_definition.headers["etag"]}) == 3


def test_an_unknown_flag_is_404_in_the_protocols_words(flags):
    answer = evaluate(flags, "nowhere", {"targetingKey": "u1"})

    assert answer.status_code == 404
    assert answer.json()["key"] == "nowhere"
    assert answer.json()["errorCode"] == "FLAG_NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "PARSE_ERROR"),
        (b"{", "PARSE_ERROR"),
        (b'{"context": {"targetingKey": "\\ud800"}}', "PARSE_ERROR"),
        (b'{"context": {"a": ' + b"[" * 100_000, "PARSE_ERROR"),
        (b"{}", "INVALID_CONTEXT"),
        (b'{"context": "u1"}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": 12345}}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": "u", "session_id": []}}', "INVALID_CONTEXT"),
        (b'{"context": {}}', "TARGETING_KEY_MISSING"),
        (b'{"context": {"targetingKey": ""}}', "TARGETING_KEY_MISSING"),
        (b'{"context": {"targetingKey": null}}', "TARGETING_KEY_MISSING"),
    ],
)
def test_a_bad_request_is_400_and_says_why(flags, body, code):
    headers = {"Content-Type": "application/json; charset=utf-8"}

    answer = flags.client.post(f"{FLAGS}/model", content=body, headers=headers)

    assert answer.status_code == 400
    check_failure(answer.json())
    assert (answer.json()["key"], answer.json()["errorCode"]) == ("model", code)


def test_a_bad_request_for_all_flags_fails_as_a_whole(flags):
    answer = flags.client.post(FLAGS, json={"context": 1})

    assert answer.status_code == 400
    assert answer.json()["errorCode"] == "INVALID_CONTEXT"


def test_a_key_for_reading_or_for_rankings_is_needed_where_keys_are_set():
    with serving(settings=SETTINGS + KEYS + admin_key(), experiments=EXPERIMENTS) as guarded:
        statuses = {
            secret: evaluate(
                guarded, "model", {"targetingKey": "u1"}, Authorization=f"Bearer {secret}"
            ).status_code
            for secret in (BACKEND, READER, "admin only", "unknown")
        }
        nobody = evaluate(guarded, "model", {"targetingKey": "u1"})

    assert statuses == {BACKEND: 200, READER: 200, "admin only": 403, "unknown": 401}
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"] == "Bearer"


def admin_key():
    digest = hashlib.sha256(b"admin only").hexdigest()
    return f'[[auth.keys]]\nname = "admin"\nsha256 = "{digest}"\nscopes = ["admin"]\n'


class TestOfficialClient:
    """``openfeature-provider-ofrep`` behind the OpenFeature SDK, as a backend would use it."""

    @pytest.fixture
    def connect(self):
        ofrep = pytest.importorskip(
            "openfeature.contrib.provider.ofrep", reason="needs openfeature-provider-ofrep"
        )
        from openfeature import api

        def connected(server, **given):
            provider = ofrep.OFREPProvider(str(server.base_url), **given)
            provider.session.trust_env = False
            opened.append(provider.session)
            api.set_provider(provider, "podium-test")
            return api.get_client("podium-test")

        opened = []
        yield connected
        api.clear_providers()
        for session in opened:
            session.close()

    def context(self, user, **attributes):
        from openfeature.evaluation_context import EvaluationContext

        return EvaluationContext(user, attributes)

    def test_it_gets_the_published_split_with_reason_and_metadata(self, flags, connect):
        client = connect(flags)

        for n in range(20):
            found = client.get_string_details("model", "default", self.context(f"client {n}"))

            assert found.error_code is None
            assert found.value == found.variant == published_variant(f"client {n}")
            assert found.reason == "SPLIT"
            assert found.flag_metadata["phase"] == 1
        desk = client.get_string_details("phones", "x", self.context("u1", device="desk"))
        assert (desk.value, desk.reason) == ("0", "UNKNOWN")

    def test_what_it_cannot_get_is_its_default_and_the_right_error(self, flags, connect):
        client = connect(flags)

        unknown = client.get_string_details("nowhere", "mine", self.context("u1"))
        nobody = client.get_string_details("model", "mine", self.context(None))
        truth = client.get_boolean_details("model", True, self.context("u1"))
        number = client.get_string_details("model", "mine", self.context("u1", session_id=7))

        assert (unknown.value, unknown.error_code) == ("mine", "FLAG_NOT_FOUND")
        assert (nobody.value, nobody.error_code) == ("mine", "TARGETING_KEY_MISSING")
        assert (truth.value, truth.error_code) == (True, "TYPE_MISMATCH")
        assert (number.value, number.error_code) == ("mine", "INVALID_CONTEXT")

    def test_a_refused_key_is_told_apart_from_a_missing_flag(self, connect):
        with serving(settings=SETTINGS + KEYS, experiments=EXPERIMENTS) as guarded:
            wrong = connect(guarded, headers_factory=lambda: {"Authorization": "Bearer wrong"})
            refused = wrong.get_string_details("model", "mine", self.context("u1"))
            right = connect(guarded, headers_factory=lambda: {"Authorization": f"Bearer {READER}"})
            taken = right.get_string_details("model", "mine", self.context("u1"))

        assert (refused.error_code, refused.error_message) == ("GENERAL", "unauthorized")
        assert taken.value == published_variant("u1")


def provide(value):
    return Provide(lambda: value, sync_to_thread=False)


def test_a_defect_is_500_without_its_stack():
    class Broken:
        def current(self):
            raise RuntimeError("secret detail")

    given = {"source": Broken(), "access": Access(AuthSettings()), "body_limit": 1000}
    app = Litestar(
        [evaluate_flag],
        dependencies={name: provide(value) for name, value in given.items()},
        exception_handlers=HANDLERS,
        openapi_config=None,
        logging_config=None,
    )

    async def ask():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://podium.test") as client:
            return await client.post(f"{FLAGS}/model", json={"context": {"targetingKey": "u"}})

    answer = asyncio.run(ask())

    assert answer.status_code == 500
    assert set(answer.json()) == {"errorDetails"}
    assert "secret" not in answer.text
