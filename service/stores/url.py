"""Where servers are, read from a URL: one server, a master that Sentinel knows, a cluster."""

import re
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct

from service.errors import StartupError

NOT_A_URL = (
    "a URL looks like redis://user:password@host:6379/0, rediss:// (TLS), unix:///path, "
    "redis+sentinel://host:26379,host:26379/service or redis+cluster://host:6379,host:6379, "
    "with special characters of the password percent-encoded"
)
_SEVERAL = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://"
    r"(?:(?P<who>[^/?#]*)@)?(?P<hosts>[^@/?#]+)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_PORTS = {"sentinel": 26_379, "cluster": 6379}


class StoreUrl(Struct, frozen=True, kw_only=True):
    """What a URL says."""

    kind: Literal["server", "sentinel", "cluster"]
    template: str
    """For a server the URL itself; else with `{}` where host and port of one belong."""
    hosts: tuple[tuple[str, int], ...] = ()
    """Of sentinels, or of some nodes of the cluster."""
    service: str = ""
    """The name under which sentinels know the master."""
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    def __repr__(self) -> str:
        return f"StoreUrl({redacted(self.template)})"  # it would show passwords

    def at(self, host: str, port: int) -> str:
        """The URL of one server, as redis-py takes it."""
        shown = f"[{host}]" if ":" in host else host
        return self.template.replace("{}", f"{shown}:{port}")

    @property
    def is_tls(self) -> bool:
        return self.template.startswith("rediss://")


def store_url(url: str, *, setting: str, cluster: bool = False) -> StoreUrl:
    """Take a URL apart.

    Args:
        url: Of any of the kinds in `NOT_A_URL`.
        setting: Where it comes from, for messages.
        cluster: A redis:// URL names a node of a cluster.

    Raises:
        StartupError: it cannot be one.
    """
    scheme, _, rest = url.partition("://")
    if cluster and scheme in ("redis", "rediss"):
        scheme, url = f"{scheme}+cluster", f"{scheme}+cluster://{rest}"
    if "+" not in scheme:
        return StoreUrl(kind="server", template=url)
    found = _SEVERAL.fullmatch(url)
    if found is None:
        raise _unusable(setting, url)
    try:
        return _several(found)
    except ValueError:
        raise _unusable(setting, url) from None


def _several(found: re.Match[str]) -> StoreUrl:
    kind = found["kind"]
    options = dict(parse_qsl(found["query"] or ""))
    service, database = (found["path"] or "").strip("/"), ""
    if kind == "sentinel":
        service, _, database = service.partition("/")
        if not service:
            raise ValueError("no service")
    elif service not in ("", "0"):
        raise ValueError("a cluster has one database")
    username = options.pop("sentinel_username", None)
    password = options.pop("sentinel_password", None)
    who = f"{found['who']}@" if found["who"] else ""
    query = f"?{urlencode(options)}" if options else ""
    return StoreUrl(
        kind="sentinel" if kind == "sentinel" else "cluster",
        template=f"{found['scheme']}://{who.replace('{}', '%7B%7D')}{{}}/{database}{query}",
        hosts=tuple(_host(text, _PORTS[kind]) for text in found["hosts"].split(",")),
        service=service if kind == "sentinel" else "",
        sentinel_username=username,
        sentinel_password=password,
    )


def _host(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("no host")
    return parts.hostname, parts.port or port


def redacted(url: str) -> str:
    """The URL as it may appear in logs and on pages: without its passwords.

    Works on the text, as a password with an unescaped slash or hash makes a URL
    that parses into the wrong parts.
    """
    shown = re.sub(r"(password=)[^&]*", r"\1***", url)
    # Everything from the first colon of the credentials to the last @.
    return re.sub(r"^([^:]*://[^:@]*):.*@", r"\1:***@", shown, flags=re.DOTALL)


def _unusable(setting: str, url: str) -> StartupError:
    return StartupError(f"{setting} {redacted(url)} cannot be used: {NOT_A_URL}")
