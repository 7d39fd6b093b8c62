"""Whether a text can be the address of a running service."""

from urllib.parse import urlsplit


def address_problem(url: str) -> str | None:
    """What to say of a URL that leads to no service; None if it can."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    return None if usable else f"{url} is no address of a service; {_LOOKS_LIKE}"


_LOOKS_LIKE = "one looks like http://127.0.0.1:8080"
