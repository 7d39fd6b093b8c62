"""Variants that come with a request: by a signed token, or decided elsewhere."""

import msgspec
import pytest

from service.api.pinning import decided_elsewhere, redeemed
from service.errors import ForceTokenExpired, ForceTokenInvalid
from service.events.force_tokens import ForceClaims, ForceTokens
from service.events.signing import SigningKeys
from service.messages import RankRequest, UserRef

NOW = 1000.0
TOKENS = ForceTokens(SigningKeys({"k": b"x" * 32}, "k"))
ASKED = RankRequest(candidates=("i1",), user=UserRef(id="u1"), session_id="s1")


def token(**changes):
    claims = ForceClaims(key="demo", variant="0", expires=2000)
    return TOKENS.sign(msgspec.structs.replace(claims, **changes))


def with_token(text, **changes):
    return msgspec.structs.replace(ASKED, force_token=text, **changes)


def test_a_token_forces_its_variant_and_is_gone():
    found = redeemed(with_token(token()), TOKENS, NOW)

    assert (found.force, found.force_token) == ({"demo": "0"}, None)


def test_a_request_without_token_is_left_as_it_is():
    assert redeemed(ASKED, TOKENS, NOW) is ASKED


def test_what_an_admin_forces_besides_wins():
    found = redeemed(with_token(token(), force={"demo": "1", "ui": "a"}), TOKENS, NOW)

    assert found.force == {"demo": "1", "ui": "a"}


@pytest.mark.parametrize("unit", ["u1", "s1", None])
def test_a_token_works_for_the_user_or_session_that_it_names(unit):
    assert redeemed(with_token(token(unit=unit)), TOKENS, NOW).force == {"demo": "0"}


@pytest.mark.parametrize("unit", ["u2", "U1", ""])
def test_a_token_works_for_nobody_else(unit):
    with pytest.raises(ForceTokenInvalid, match="for another user or session"):
        redeemed(with_token(token(unit=unit)), TOKENS, NOW)


def test_a_token_that_expired_forces_nothing():
    with pytest.raises(ForceTokenExpired):
        redeemed(with_token(token()), TOKENS, 2000.0)


@pytest.mark.parametrize(
    ("headers", "external"),
    [
        ([], {}),
        (["demo=a"], {"demo": "a"}),
        (["demo=a, ui = b"], {"demo": "a", "ui": "b"}),
        (["demo=a", "ui=b"], {"demo": "a", "ui": "b"}),
        (["demo=0"], {"demo": "0"}),
        (["demo=a=b"], {"demo": "a=b"}),
        ([""], {}),
        ([" , ,"], {}),
        (["nonsense"], {"nonsense": ""}),
        (["=a"], {"": "a"}),
    ],
)
def test_a_header_decides_and_nonsense_is_left_to_be_ignored_and_counted(headers, external):
    assert decided_elsewhere(ASKED, headers).external == external


def test_the_field_wins_over_the_header():
    asked = msgspec.structs.replace(ASKED, external={"demo": "field"})

    found = decided_elsewhere(asked, ["demo=header, ui=b"])

    assert found.external == {"demo": "field", "ui": "b"}
