"""Compressed bodies, as tritonclient can send them: undone, and never beyond a bound."""

import zlib
from typing import Final

from service.errors import BodyTooLarge, InvalidInference, UnsupportedEncoding

ENCODINGS: Final = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""Content encodings, and how zlib calls them: deflate is zlib's own format (RFC 9110, 8.4.1.2)."""


def uncompressed(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body as it was before it was compressed.

    Args:
        body: As received.
        encoding: ``Content-Encoding``; empty or ``identity``: it is not compressed.
        limit_bytes: Most that it may have been.

    Raises:
        UnsupportedEncoding: it is compressed in another way, or more than once.
        BodyTooLarge: it was larger; no more than the limit is ever undone.
        InvalidInference: it is not what the encoding says.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    bits = ENCODINGS.get(encoding)
    if bits is None:
        raise UnsupportedEncoding(encoding, tuple(ENCODINGS))
    stream = zlib.decompressobj(bits)
    try:
        plain = stream.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise InvalidInference(f"the body is not {encoding}: {error}") from None
    if len(plain) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    if not stream.eof or stream.unused_data:
        raise InvalidInference(f"the body is not {encoding}: it ends too early or too late")
    return plain
