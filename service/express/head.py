"""The head of a plain ranking request, read strictly. Pure.

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
_PLAIN = re.compile(
    rb"POST /v1/rank HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)++)"
    rb"\r\n"
)
_UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer"))
_KEEPS_ALIVE = {b"": True, b"keep-alive": True, b"close": False}
_LENGTH_DIGITS = 10
_JSON = b"application/json"


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


def read_head(data: bytes) -> Head | None:
    """The head at the start of the data; None unless it is complete and plain."""
    ends = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if ends < 0:
        return None
    head = data[: ends + 4]
    if ends > _WORTH_REMEMBERING or b"traceparent" in head:
        return _read(head)
    return _remembered(head)


def _read(data: bytes) -> Head | None:
    found = _PLAIN.fullmatch(data)
    if found is None:
        return None
    lines = found[1].split(b"\r\n")
    lines.pop()
    fields = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip(b" \t")
    length = fields.get(b"content-length", b"")
    keep_alive = _KEEPS_ALIVE.get(fields.get(b"connection", b"").lower())
    if (
        len(fields) != len(lines)
        or keep_alive is None
        or not length.isdigit()
        or len(length) > _LENGTH_DIGITS
        or not _is_json(fields.get(b"content-type", b""))
        or not _UNUSUAL.isdisjoint(fields)
    ):
        return None
    traced = b"traceparent" in fields
    return Head(fields, found.end(), int(length), keep_alive, traced)


# A client sends the same few heads again and again, but for the length of the body.
_WORTH_REMEMBERING = 1024
_remembered = lru_cache(maxsize=1024)(_read)


def _is_json(content_type: bytes) -> bool:
    return content_type == _JSON or content_type.partition(b";")[0].strip().lower() == _JSON
