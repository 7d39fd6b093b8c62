"""The head of a plain ranking request or item page, read strictly. Pure.

What this does not fully understand is none: the server's own parser then reads
the same bytes, and says what is wrong with them if anything is.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

MAX_HEAD_BYTES = 65_536

# Names and values as RFC 9110 §5 has them, nothing folded, CRLF everywhere. Possessive, so that
# no input makes it look twice at a byte.
_FIELDS = rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)++)\r\n"
_PLAIN = re.compile(rb"POST /v1/rank HTTP/1\.1\r\n" + _FIELDS)
_ALL_FIELDS = re.compile(_FIELDS)
_PAGE_LINE = b"GET /v1/items/"
# Nothing that stands for another character, so that the path is what it says.
_PAGE = re.compile(
    rb"GET /v1/items/([\-.0-9A-Z_a-z~]{1,256}+)/recommendations"
    rb"(?:\?((?:[\-.0-9A-Z_a-z~]++=[\-.0-9A-Z_a-z~]++&?+)++))? HTTP/1\.1\r\n"
)
# The last two name decisions of another system, which the route reads, and ask for a trace.
_UNUSUAL = frozenset(
    (
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"te",
        b"trailer",
        b"x-experiment-variant",
        b"x-podium-trace",
    )
)
_KEEPS_ALIVE = {b"": True, b"keep-alive": True, b"close": False}
_LENGTH_DIGITS = 10
_JSON = b"application/json"


class Page(Struct, frozen=True):
    """The item page that a request asks for."""

    item_id: str
    query: tuple[tuple[str, str], ...]
    """Names and values; each name is there once."""
    query_string: bytes = b""
    """The same as it was sent."""


class Head(Struct, frozen=True):
    """A request line and header fields that hold no surprise."""

    fields: Mapping[bytes, bytes]
    """By lower-case name; each name was there once."""
    body_at: int
    """Where the body begins."""
    body_bytes: int
    keep_alive: bool
    traced: bool = False
    """The caller tells of a trace that the request belongs to."""
    plain: bool = True
    """Nothing in it but the body's length and the trace is looked at again, access apart."""
    page: Page | None = None
    """None: a ranking request."""


def read_head(data: bytes) -> Head | None:
    """The head at the start of the data; None unless it is complete and plain."""
    ends = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if ends < 0:
        return None
    head = data[: ends + 4]
    is_page = head.startswith(_PAGE_LINE)
    if ends > _WORTH_REMEMBERING or b"traceparent" in head or b"baggage" in head:
        return _page(head) if is_page else _read(head)
    return _remembered_page(head) if is_page else _remembered(head)


def _read(data: bytes) -> Head | None:
    found = _PLAIN.fullmatch(data)
    if found is None:
        return None
    fields = _fields(found[1])
    if fields is None:
        return None
    length = fields.get(b"content-length", b"")
    keep_alive = _KEEPS_ALIVE.get(fields.get(b"connection", b"").lower())
    if (
        keep_alive is None
        or not length.isdigit()
        or len(length) > _LENGTH_DIGITS
        or not _is_json(fields.get(b"content-type", b""))
    ):
        return None
    plain = b"x-forwarded-proto" not in fields
    return Head(fields, found.end(), int(length), keep_alive, _is_traced(fields), plain)


def _page(data: bytes) -> Head | None:
    """The head of an item page's request, if it is plain."""
    found = _PAGE.match(data)
    if found is None:
        return None
    rest = _ALL_FIELDS.fullmatch(data, found.end())
    query, fields = _query(found[2] or b""), None if rest is None else _fields(rest[1])
    if query is None or fields is None:
        return None
    keep_alive = _KEEPS_ALIVE.get(fields.get(b"connection", b"").lower())
    # A body would be none of ours to read.
    if keep_alive is None or b"content-length" in fields:
        return None
    page = Page(found[1].decode(), query, found[2] or b"")
    traced = _is_traced(fields)
    return Head(fields, len(data), 0, keep_alive, traced, plain=False, page=page)


def _is_traced(fields: Mapping[bytes, bytes]) -> bool:
    return b"traceparent" in fields or b"baggage" in fields


def _fields(data: bytes) -> Mapping[bytes, bytes] | None:
    """By lower-case name; None if one is there twice, or changes what follows."""
    lines = data.split(b"\r\n")
    lines.pop()
    fields = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip(b" \t")
    plain = len(fields) == len(lines) and _UNUSUAL.isdisjoint(fields)
    return fields if plain else None


def _query(text: bytes) -> tuple[tuple[str, str], ...] | None:
    """Names and values; None if a name is there twice."""
    if text.endswith(b"&"):
        return None
    pairs = [pair.partition("=") for pair in text.decode().split("&")] if text else []
    query = tuple((name, value) for name, _, value in pairs)
    return query if len(dict(query)) == len(query) else None


# A client sends the same few heads again and again, but for the length of the body.
_WORTH_REMEMBERING = 1024
_remembered = lru_cache(maxsize=1024)(_read)
_remembered_page = lru_cache(maxsize=2048)(_page)


def _is_json(content_type: bytes) -> bool:
    return content_type == _JSON or content_type.partition(b";")[0].strip().lower() == _JSON
