"""Force tokens cannot be made up, changed, or kept for ever, and are no exposure tokens."""

import base64
import string

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.events import Arm
from service.errors import ForceTokenExpired, ForceTokenInvalid
from service.events.force_tokens import MAX_TOKEN_CHARS, ForceClaims, ForceTokens
from service.events.signing import SigningKeys, signature_of
from service.events.tokens import Claims, ExposureTokens, TokenRejected

NOW = 1_750_000_000
KEYS = SigningKeys({"new": b"n" * 40, "old": b"o" * 32}, "new")
TOKENS = ForceTokens(KEYS)
CLAIMS = ForceClaims(key="rollout", variant="0", unit="ü42", expires=NOW + 60)
TOKEN = TOKENS.sign(CLAIMS)
EXPOSURE = ExposureTokens(KEYS).sign(
    Claims(slate_id="s", issued=NOW, expires=NOW + 60, arms=(Arm("r", 1, "a", "u"),), items="")
)
TEXT = string.ascii_letters + string.digits + "-_.+/= \nü\x00"


def test_a_token_allows_what_was_signed():
    assert TOKENS.verify(TOKEN, NOW) == CLAIMS
    assert TOKEN.startswith("f1.new.")


def test_a_token_of_a_key_that_signs_no_more_is_still_good():
    old = ForceTokens(SigningKeys(KEYS.by_id, "old")).sign(CLAIMS)

    assert TOKENS.verify(old, NOW) == CLAIMS


def test_a_token_is_good_until_it_expires():
    assert TOKENS.verify(TOKEN, NOW + 59.9) == CLAIMS
    with pytest.raises(ForceTokenExpired, match="expired 5 s ago") as refused:
        TOKENS.verify(TOKEN, NOW + 65)
    assert (refused.value.status, refused.value.code) == (403, "force_token_expired")


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "not a force token"),
        ("f1", "not a force token"),
        ("f1.new.e30", "not a force token"),
        (TOKEN + ".x", "not a force token"),
        (TOKEN.replace("f1", "f2"), "not a force token"),
        (TOKEN.replace("f1", "v1"), "not a force token"),
        (EXPOSURE, "not a force token"),
        ("f1" + EXPOSURE[2:], "the signature does not fit"),
        (TOKEN.replace("new", "nobody's"), 'no key "nobody\'s" is configured'),
        (TOKEN.replace("new", "old"), "the signature does not fit"),
        (TOKEN + "=", "the signature does not fit"),
        (TOKEN[:-1], "the signature does not fit"),
        ("ü" + TOKEN, "not a force token"),
        ("f1.new." + "a" * MAX_TOKEN_CHARS, "not a force token"),
    ],
)
def test_anything_else_is_refused(token, says):
    with pytest.raises(ForceTokenInvalid, match=says) as refused:
        TOKENS.verify(token, NOW)

    assert (refused.value.status, refused.value.code) == (403, "force_token_invalid")


def test_a_force_token_is_no_exposure_token():
    for token in (TOKEN, "v1" + TOKEN[2:]):
        with pytest.raises(TokenRejected):
            ExposureTokens(KEYS).verify(token, NOW)


def test_claims_of_another_release_are_refused():
    payload = base64.urlsafe_b64encode(msgspec.json.encode({"k": "rollout"})).decode().rstrip("=")
    signed = f"f1.new.{payload}"
    with pytest.raises(ForceTokenInvalid, match="another release"):
        TOKENS.verify(f"{signed}.{signature_of(KEYS.signing_key, signed)}", NOW)


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(TEXT))
@example(len(TOKEN) - 1, "A")
def test_no_other_character_anywhere_passes(at, character):
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    if changed != TOKEN:
        with pytest.raises(ForceTokenInvalid):
            TOKENS.verify(changed, NOW)
