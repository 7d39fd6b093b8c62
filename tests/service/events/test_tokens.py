"""Exposure tokens cannot be made up, changed, moved or kept for ever."""

import base64
import json
import string

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.events import Arm, unit_digest
from service.events.signing import SigningKeys
from service.events.tokens import (
    MAX_TOKEN_CHARS,
    Claims,
    ExposureTokens,
    TokenRejected,
    digested_items,
    items_digest,
)
from service.messages import MAX_CANDIDATES

NOW = 1_750_000_000
OLD, NEW = b"o" * 32, b"n" * 40
TOKENS = ExposureTokens(SigningKeys({"new": NEW, "old": OLD}, "new"))
CLAIMS = Claims(
    slate_id="01J0000000000000000000000",
    issued=NOW,
    expires=NOW + 60,
    arms=(
        Arm("rollout", 3, "fp16", unit_digest("u42"), 0.5),
        Arm("höhe", 1, "b", unit_digest("s7")),
    ),
    items=items_digest(["i1", "ï2"]),
)
TOKEN = TOKENS.sign(CLAIMS)
TEXT = string.ascii_letters + string.digits + "-_.+/= \nü\x00"


def code_of(token: str, now: float = NOW) -> str:
    with pytest.raises(TokenRejected) as rejected:
        TOKENS.verify(token, now)
    return rejected.value.code


def test_a_token_gives_back_what_was_signed():
    assert TOKENS.verify(TOKEN, NOW) == CLAIMS


def test_a_token_has_the_documented_form_and_no_user_id():
    version, key_id, payload, signature = TOKEN.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))

    assert (version, key_id, len(signature)) == ("v1", "new", 43)
    assert claims == {
        "s": CLAIMS.slate_id,
        "i": NOW,
        "e": NOW + 60,
        "a": [
            ["rollout", 3, "fp16", unit_digest("u42"), 0.5],
            ["höhe", 1, "b", unit_digest("s7"), 1.0],
        ],
        "k": items_digest(["i1", "ï2"]),
    }


def test_a_token_is_good_until_the_second_in_which_it_expires():
    assert TOKENS.verify(TOKEN, NOW + 59.999) == CLAIMS
    assert code_of(TOKEN, NOW + 60) == "token_expired"


def test_a_key_that_no_longer_signs_still_verifies():
    signed_before = ExposureTokens(SigningKeys({"old": OLD}, "old")).sign(CLAIMS)

    assert TOKENS.verify(signed_before, NOW) == CLAIMS


def test_a_key_that_was_removed_verifies_nothing():
    removed = ExposureTokens(SigningKeys({"gone": OLD}, "gone")).sign(CLAIMS)

    assert code_of(removed) == "token_unknown_key"


def test_the_same_key_id_with_another_key_is_a_forgery():
    assert code_of(ExposureTokens(SigningKeys({"new": OLD}, "new")).sign(CLAIMS)) == "token_forged"


def test_a_signature_cannot_be_put_under_other_claims():
    other = TOKENS.sign(Claims(slate_id="s2", issued=NOW, expires=NOW + 60, arms=(), items=""))
    moved = f"{TOKEN.rpartition('.')[0]}.{other.rpartition('.')[2]}"

    assert code_of(moved) == "token_forged"


@given(st.data())
def test_any_changed_character_is_noticed(data):
    at = data.draw(st.integers(0, len(TOKEN) - 1))
    put = data.draw(st.sampled_from([c for c in TEXT if c != TOKEN[at]]))

    code_of(TOKEN[:at] + put + TOKEN[at + 1 :])


def test_no_other_last_character_is_as_good():
    """43 base64 digits hold 258 bits, the signature has 256: four texts decode to it."""
    same_bytes = [
        TOKEN[:-1] + last
        for last in string.ascii_letters + string.digits + "-_"
        if base64.urlsafe_b64decode(TOKEN[-43:-1] + last + "=")
        == base64.urlsafe_b64decode(TOKEN[-43:] + "=")
    ]

    assert len(same_bytes) == 4
    assert {code_of(text) for text in same_bytes if text != TOKEN} == {"token_forged"}


@given(st.integers(0, len(TOKEN)), st.sampled_from(TEXT))
@example(len(TOKEN), "=")
@example(len(TOKEN) - 44, "=")
@example(len(TOKEN), "\n")
def test_any_added_character_is_noticed(at, put):
    code_of(TOKEN[:at] + put + TOKEN[at:])


@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 5))
def test_any_missing_characters_are_noticed(at, n):
    code_of(TOKEN[:at] + TOKEN[at + n :])


@given(st.text(max_size=200))
@example("")
@example("v1...")
@example("v1.new..")
@example("....")
@example("v1.new.e30.ü")
@example("\ud800")
def test_junk_is_refused_with_a_code(junk):
    assert code_of(junk) in {"token_malformed", "token_unknown_key", "token_forged"}


def test_a_huge_token_is_refused_before_any_work():
    assert code_of("v1.new." + "A" * 50_000_000 + ".x") == "token_malformed"


@pytest.mark.parametrize(
    "payload",
    [b"not json", b"{}", b"[]", b'{"s":1,"i":1,"e":9999999999,"a":[]}', b"{" * 5000, b"\xff", b""],
)
def test_claims_that_we_signed_but_cannot_read_are_refused(payload):
    """So a newer release may sign something else without a crash of this one."""
    text = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    assert code_of(sign_text(f"v1.new.{text}")) == "token_malformed"


def test_claims_that_are_no_base64_are_refused():
    assert code_of(sign_text("v1.new.A")) == "token_malformed"


def test_fields_of_a_later_release_do_not_disturb():
    payload = {"s": "s1", "i": NOW, "e": NOW + 60, "k": "", "later": 1}
    payload["a"] = [["x", 1, "b", "00", 0.5, "later"]]
    text = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()

    assert TOKENS.verify(sign_text(f"v1.new.{text}"), NOW).arms == (Arm("x", 1, "b", "00", 0.5),)


def test_a_token_of_the_release_before_is_still_good():
    """It lives for a day, so it outlives an upgrade."""
    payload = {"s": "s1", "i": NOW, "e": NOW + 60, "k": "abcd", "a": [["x", 1, "b", "00"]]}
    text = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()

    claims = TOKENS.verify(sign_text(f"v1.new.{text}"), NOW)
    assert claims.arms == (Arm("x", 1, "b", "00", 1.0),)
    assert (claims.teams, claims.picks) == ((), "")


def test_a_token_of_an_interleaved_slate_says_whose_pick_each_item_was():
    mixed = msgspec.structs.replace(CLAIMS, teams=("fp32", "fp16"), picks="01")

    assert TOKENS.verify(TOKENS.sign(mixed), NOW) == mixed


def test_the_longest_slate_with_several_experiments_still_fits_into_an_event():
    long = "x" * 64
    most = Claims(
        slate_id=CLAIMS.slate_id,
        issued=NOW,
        expires=NOW + 60,
        arms=tuple(Arm(long, 10**6, long, unit_digest("u"), 1 / 3) for _ in range(3)),
        items=items_digest(str(n) for n in range(MAX_CANDIDATES)),
        teams=(long, long),
        picks="01" * (MAX_CANDIDATES // 2),
    )

    assert len(TOKENS.sign(most)) <= MAX_TOKEN_CHARS


def sign_text(signed: str) -> str:
    import hmac

    signature = hmac.digest(NEW, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_a_token_knows_the_items_of_its_slate_and_no_others():
    held = digested_items(items_digest(["i1", "ï2", "x" * 256]))

    assert len(held) == 3
    for item in ("i1", "ï2", "x" * 256):
        assert items_digest([item]) in held
    for stranger in ("i2", "I1", "i1 ", ""):
        assert items_digest([stranger]) not in held
    assert digested_items("") == ()
