"""Which heads are plain: nothing that the server's own parser would read otherwise."""

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.express.head import MAX_HEAD_BYTES, read_head

PLAIN = (
    b"POST /v1/rank HTTP/1.1\r\n"
    b"Host: shop.test:8080\r\n"
    b"Accept: */*\r\n"
    b"content-TYPE:\tapplication/json \r\n"
    b"Content-Length: 2\r\n"
    b"\r\n"
)


def head(*lines: bytes, start: bytes = b"POST /v1/rank HTTP/1.1") -> bytes:
    fixed = (b"Content-Type: application/json", b"Content-Length: 2")
    return b"\r\n".join((start, *fixed, *lines)) + b"\r\n\r\n"


def test_a_plain_head_is_read():
    found = read_head(PLAIN + b"{}POST")

    assert found is not None
    assert found.body_at == len(PLAIN)
    assert found.body_bytes == 2
    assert found.keep_alive
    assert found.fields == {
        b"host": b"shop.test:8080",
        b"accept": b"*/*",
        b"content-type": b"application/json",
        b"content-length": b"2",
    }


@pytest.mark.parametrize(
    "data",
    [
        head(start=b"GET /v1/rank HTTP/1.1"),
        head(start=b"POST /v1/rank/ HTTP/1.1"),
        head(start=b"POST /v1/rank?k=3 HTTP/1.1"),
        head(start=b"POST http://shop.test/v1/rank HTTP/1.1"),
        head(start=b"POST /v1/rank HTTP/1.0"),
        head(start=b" POST /v1/rank HTTP/1.1"),
        head(start=b"\r\nPOST /v1/rank HTTP/1.1"),
        head(b"Transfer-Encoding: chunked"),
        head(b"Transfer-Encoding:"),
        head(b"Expect: 100-continue"),
        head(b"Upgrade: h2c"),
        head(b"TE: trailers"),
        head(b"Connection: Upgrade"),
        head(b"Connection: keep-alive, te"),
        head(b"Content-Length: 2"),
        head(b"content-length: 3"),
        head(b"X-One: 1", b"x-one: 2"),
        head(b"X-Folded: 1", b" 2"),
        head(b"Space : 1"),
        head(b": nameless"),
        head(b"no colon"),
        head(b"Zero: \0"),
        head(b"Bare: \n"),
        head(b"Bare: \r"),
        head().replace(b"\r\n", b"\n"),
        head().replace(b"Content-Length: 2", b"Content-Length: 2, 2"),
        head().replace(b"Content-Length: 2", b"Content-Length: +2"),
        head().replace(b"Content-Length: 2", b"Content-Length: 0x2"),
        head().replace(b"Content-Length: 2", b"Content-Length:"),
        head().replace(b"Content-Length: 2", b"Content-Length: 12345678901"),
        head().replace(b"Content-Length: 2\r\n", b""),
        head().replace(b"application/json", b"text/plain"),
        head().replace(b"application/json", b"application/jsonp"),
        head().replace(b"Content-Type: application/json\r\n", b""),
        head(b"X-Large: " + b"x" * MAX_HEAD_BYTES),
        b"",
        b"\x16\x03\x01\x02",
    ],
)
def test_what_is_unusual_is_left_to_the_server(data):
    assert read_head(data) is None


@pytest.mark.parametrize("size", range(len(PLAIN)))
def test_an_incomplete_head_is_left_to_the_server(size):
    assert read_head(PLAIN[:size]) is None


@pytest.mark.parametrize(
    ("line", "keep_alive"),
    [
        (b"Connection: close", False),
        (b"CONNECTION: Close", False),
        (b"Connection: keep-alive", True),
        (b"Connection:", True),
    ],
)
def test_the_connection_is_kept_as_the_caller_wants(line, keep_alive):
    found = read_head(head(line))

    assert found is not None
    assert found.keep_alive is keep_alive


@pytest.mark.parametrize("kind", [b"application/json; charset=utf-8", b"Application/JSON"])
def test_json_is_json_with_parameters_and_in_capitals(kind):
    assert read_head(head().replace(b"application/json", kind)) is not None


def test_a_hostile_head_costs_no_more_than_its_length():
    # Backtracking over any of these would take minutes.
    for line in (b"a" * 60_000, b"a: " + b"\t" * 60_000 + b"\x01", b"a:\r\n" * 15_000 + b"!"):
        assert read_head(head(line)) is None


class Parsed:
    """What the server's parser makes of bytes."""

    def __init__(self, data: bytes) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = self.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.keep_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


lines = st.one_of(
    st.tuples(st.from_regex(rb"[A-Za-z-]{1,12}", fullmatch=True), st.binary(max_size=12)).map(
        lambda pair: pair[0] + b": " + pair[1]
    ),
    st.sampled_from(
        (b"Connection: close", b"Connection: keep-alive", b"Content-Length: 1", b"Expect: x")
    ),
    st.binary(max_size=12),
)


@given(st.lists(lines, max_size=4), st.binary(max_size=2))
@example([b"X:1\tb \t"], b"{}")
@example([b"X: \xff"], b"{}")
def test_what_is_plain_here_is_the_same_to_the_servers_parser(extra, body):
    data = head(*extra) + body
    found = read_head(data)
    if found is None:
        return
    ends = found.body_at + found.body_bytes

    parsed = Parsed(data[:ends])

    assert {name: value.strip() for name, value in parsed.fields} == found.fields
    assert parsed.parser.get_method() == b"POST"
    assert parsed.keep_alive is found.keep_alive
    assert parsed.body == data[found.body_at : ends]
    assert parsed.complete is (len(data) >= ends)


# --- item pages ---


def page_head(target="/v1/items/i3/recommendations", fields="host: x\r\n"):
    return read_head(f"GET {target} HTTP/1.1\r\n{fields}\r\n".encode())


def test_the_head_of_a_page_names_its_item_and_query():
    head = page_head("/v1/items/a-1.B_~/recommendations?k=3&device=ios")

    assert head is not None
    assert head.page is not None
    assert (head.page.item_id, dict(head.page.query)) == ("a-1.B_~", {"k": "3", "device": "ios"})
    assert head.body_bytes == 0
    assert head.keep_alive
    assert head.body_at == len(
        b"GET /v1/items/a-1.B_~/recommendations?k=3&device=ios HTTP/1.1\r\nhost: x\r\n\r\n"
    )


@pytest.mark.parametrize(
    "target",
    [
        "/v1/items/%693/recommendations",
        "/v1/items/a/b/recommendations",
        "/v1/items//recommendations",
        f"/v1/items/{'x' * 257}/recommendations",
        "/v1/items/i3/recommendations/",
        "/v1/items/i3/recommendations?",
        "/v1/items/i3/recommendations?k",
        "/v1/items/i3/recommendations?k=",
        "/v1/items/i3/recommendations?=3",
        "/v1/items/i3/recommendations?k=3&",
        "/v1/items/i3/recommendations?k=3&&device=ios",
        "/v1/items/i3/recommendations?k=3&k=4",
        "/v1/items/i3/recommendations?device=a+b",
        "/v1/items/i3/recommendations?device=%41",
        "/v1/items/i3/recommendations#k",
        "/v1/items/i3",
    ],
)
def test_a_page_whose_address_has_to_be_understood_is_for_the_framework(target):
    assert page_head(target) is None


@pytest.mark.parametrize(
    "fields",
    [
        "content-length: 0\r\n",
        "content-length: 3\r\n",
        "transfer-encoding: chunked\r\n",
        "expect: 100-continue\r\n",
        "upgrade: h2c\r\n",
        "x-experiment-variant: a=b\r\n",
        "host: x\r\nhost: y\r\n",
        "connection: upgrade\r\n",
        " folded: x\r\n",
    ],
)
def test_a_page_with_a_body_or_an_unusual_field_is_for_the_framework(fields):
    assert page_head(fields=fields) is None


def test_a_request_that_belongs_to_a_trace_is_as_plain_as_any_other():
    found = read_head(head(b"traceparent: 00-a-b-01"))

    assert found is not None
    assert found.traced
    assert found.plain


def test_a_page_may_close_its_connection_and_belong_to_a_trace():
    head = page_head(fields="host: x\r\nconnection: close\r\ntraceparent: 00-a-b-01\r\n")

    assert head is not None
    assert not head.keep_alive
    assert head.traced


def test_another_methods_request_for_a_page_is_for_the_framework():
    assert read_head(b"POST /v1/items/i3/recommendations HTTP/1.1\r\nhost: x\r\n\r\n") is None
    assert read_head(b"GET /v1/items/i3/recommendations HTTP/1.0\r\nhost: x\r\n\r\n") is None
