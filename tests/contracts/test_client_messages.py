"""The Python client's structs say what the service's messages say, field by field.

Two differences are meant: a reply's fixed words are plain text to the client, for a newer service
may use new ones; and what a reply leaves out (``UNSET``) is None to it.
"""

import types
from typing import Annotated, Literal, Union, get_args, get_origin

import msgspec
import podium_client.errors
import pytest
from podium_client import experiments, models, replies, report, requests

import service.errors
from experiments.report import Report
from experiments.standing import Standing
from service import messages
from service.api.problems import FRAMEWORK_CODES, OTHER_REFUSAL
from service.health import Readiness

REQUESTS = [
    (requests.RankRequest, messages.RankRequest),
    (requests.FeedbackEvent, messages.FeedbackEvent),
    (requests.ExperimentChange, messages.ExperimentChange),
]
REPLIES = [
    (replies.RankReply, messages.RankReply),
    (replies.EventsReply, messages.EventsReply),
    (replies.Problem, messages.Problem),
    (replies.Readiness, Readiness),
    (experiments.ExperimentsReply, messages.ExperimentsReply),
    (experiments.DecisionsReply, messages.DecisionsReply),
    (experiments.Standing, Standing),
    (models.ModelsReply, messages.ModelsReply),
    (report.Report, Report),
]


@pytest.mark.parametrize(("client", "service_side"), REQUESTS)
def test_requests_have_the_fields_types_and_defaults_of_the_service(client, service_side):
    assert fields(client, exact=True) == fields(service_side, exact=True)


@pytest.mark.parametrize(("client", "service_side"), REPLIES)
def test_replies_have_the_fields_types_and_defaults_of_the_service(client, service_side):
    assert fields(client) == fields(service_side)


@pytest.mark.parametrize("reply", [client for client, _ in REPLIES])
def test_a_reply_may_have_fields_that_the_client_does_not_know(reply):
    assert not any(one.__struct_config__.forbid_unknown_fields for one in structs(reply))


@pytest.mark.parametrize("request_type", [client for client, _ in REQUESTS])
def test_a_request_has_none_that_the_service_does_not_know(request_type):
    assert all(one.__struct_config__.forbid_unknown_fields for one in structs(request_type))


def test_every_code_of_the_service_is_an_error_of_the_client():
    told = {
        error.code
        for error in vars(service.errors).values()
        if isinstance(error, type)
        and issubclass(error, service.errors.RankingError)
        and error.status != service.errors.ClientGone.status  # nobody is left to read it
    }

    assert set(podium_client.errors.BY_CODE) == {*told, *FRAMEWORK_CODES.values(), OTHER_REFUSAL}


def fields(struct, *, exact=False):
    """Field by field, what may stand there: ``name: (type, default)``, nested structs likewise."""
    return {
        field.name: (text(meaning(field.type, exact=exact)), default(field))
        for field in msgspec.structs.fields(struct)
    }


def default(field):
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    if field.default is msgspec.NODEFAULT:
        return "required"
    if isinstance(field.default, msgspec.Struct):
        return msgspec.structs.asdict(field.default)
    return None if field.default is msgspec.UNSET else field.default


def meaning(kind, *, exact):
    origin = get_origin(kind)
    if origin is Annotated:
        return meaning(get_args(kind)[0], exact=exact)
    if origin is Literal:
        return frozenset(map(repr, get_args(kind))) if exact else repr(str)
    if origin in (Union, types.UnionType):
        return one_of(meaning(part, exact=exact) for part in get_args(kind))
    if origin is not None:
        within = (text(meaning(one, exact=exact)) for one in get_args(kind))
        return f"{origin.__name__}[{', '.join(within)}]"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return repr(sorted(fields(kind, exact=exact).items()))
    return repr(type(None) if kind in (None, msgspec.UnsetType) else kind)


def text(alternatives):
    return " | ".join(sorted(alternatives)) if isinstance(alternatives, frozenset) else alternatives


def one_of(meanings):
    """Alternatives within alternatives are alternatives; a single one is itself."""
    parts = set()
    for one in meanings:
        parts |= one if isinstance(one, frozenset) else {one}
    return frozenset(parts) if len(parts) > 1 else parts.pop()


def structs(kind):
    """The struct and every one within it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for field in msgspec.structs.fields(kind):
            yield from structs(field.type)
    for one in get_args(kind):
        yield from structs(one)
