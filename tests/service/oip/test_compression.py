"""Compressed bodies are undone within a bound."""

import gzip
import zlib

import pytest

from service.errors import BodyTooLarge, InvalidInference, UnsupportedEncoding
from service.oip.compression import uncompressed

BODY = b'{"inputs": []}' * 50


@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        (" GZip ", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
    ],
)
def test_a_body_is_what_was_compressed(encoding, sent):
    assert uncompressed(sent, encoding, len(BODY)) == BODY


def test_a_small_body_that_would_become_large_is_refused():
    with pytest.raises(BodyTooLarge, match="larger than 1000 bytes"):
        uncompressed(gzip.compress(bytes(10_000_000)), "gzip", 1000)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        BODY,
        gzip.compress(BODY, mtime=0)[:-1],
        gzip.compress(BODY, mtime=0) + b"x",
        zlib.compress(BODY),
    ],
)
def test_what_is_not_gzip_is_refused(sent):
    with pytest.raises(InvalidInference, match="the body is not gzip"):
        uncompressed(sent, "gzip", 100_000)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
def test_other_encodings_are_refused(encoding):
    with pytest.raises(UnsupportedEncoding, match="send gzip or deflate, or none"):
        uncompressed(BODY, encoding, 100_000)
