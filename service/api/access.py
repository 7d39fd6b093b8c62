"""Who may call what: bearer keys with scopes, or everyone where none are set."""

import hashlib
import hmac
import ipaddress
from typing import Any
from urllib.parse import urlsplit

from litestar import Request
from msgspec import Struct

from service.errors import Forbidden, RankingError, Unauthorised
from service.settings import ApiKey, AuthSettings, Scope

FORWARDING = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",  # Envoy as it comes adds this one only
    "x-real-ip",
    "via",
)
"""What proxies add to a request; one is enough."""


class Caller(Struct, frozen=True):
    """Who sent a request, as far as access depends on it."""

    authorization: str
    """The header; empty without one."""
    host: str | None
    """The address at the other end."""
    forwarded: bool
    """A proxy has added its headers."""
    asked_host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None
    """The headers ``Host``, ``Origin`` and ``Sec-Fetch-Site``; None without."""


class Access:
    """Checks the bearer key of a request against the settings."""

    def __init__(self, settings: AuthSettings) -> None:
        self._keys = settings.keys

    @property
    def needs_key(self) -> bool:
        return bool(self._keys)

    def require(self, request: Request[Any, Any, Any], scope: Scope) -> None:
        """Let the request pass, or refuse it; see `check`."""
        self.check(_caller(request), scope)

    def author(self, request: Request[Any, Any, Any], scope: Scope) -> str:
        """Let the request pass, or refuse it as `require` does, and say who sent it.

        Returns:
            ``key:<name>``, or ``loopback`` where no keys are set.
        """
        self.require(request, scope)
        if not self._keys:
            return "loopback"
        return f"key:{self._key(_caller(request).authorization).name}"

    def allows(self, request: Request[Any, Any, Any], scope: Scope) -> bool:
        """Whether `require` would let the request pass."""
        try:
            self.require(request, scope)
        except RankingError:
            return False
        return True

    def check(self, caller: Caller, scope: Scope) -> None:
        """Let a caller pass, or refuse it.

        Raises:
            Unauthorised: keys are configured and the request carries none of them.
            Forbidden: its key lacks the scope; or, without keys, an ``admin``
                request from another machine, through a proxy, or by another site's page.
        """
        if not self._keys:
            if scope == "admin":
                _check_trusted(caller)
            return
        if scope not in self._key(caller.authorization).scopes:
            raise Forbidden(f"the key lacks the scope {scope!r}")

    def _key(self, header: str) -> ApiKey:
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthorised("send `Authorization: Bearer <key>`")
        digest = hashlib.sha256(key.strip().encode()).hexdigest()
        # Every key is compared, each in constant time: timing tells nothing.
        matches = [known for known in self._keys if hmac.compare_digest(known.sha256, digest)]
        if not matches:
            raise Unauthorised("the API key is not known")
        return matches[0]


def _caller(request: Request[Any, Any, Any]) -> Caller:
    return Caller(
        authorization=request.headers.get("authorization", ""),
        host=None if request.client is None else request.client.host,
        forwarded=any(name in request.headers for name in FORWARDING),
        asked_host=request.headers.get("host"),
        origin=request.headers.get("origin"),
        fetch_site=request.headers.get("sec-fetch-site"),
    )


def _is_foreign(caller: Caller) -> bool:
    """Whether a browser may have been made to send this by a page that is not ours.

    Any page that is open on this machine can have its browser post to loopback; the
    browser then says where the page came from. A page whose own name was made to mean
    127.0.0.1 (DNS rebinding) is of one origin with us, and shows in the host it asks for.
    """
    if caller.asked_host and not _is_this_machine(caller.asked_host):
        return True
    if caller.fetch_site not in (None, "same-origin", "none"):
        return True
    return caller.origin is not None and urlsplit(caller.origin).netloc != caller.asked_host


def _is_this_machine(host: str) -> bool:
    """Whether a host header names loopback, and not by a name that somebody can give away."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _check_trusted(caller: Caller) -> None:
    """Raise unless the caller may do everything without a key."""
    if not _from_loopback(caller):
        raise Forbidden("without API keys this is for direct loopback clients only")
    if _is_foreign(caller):
        raise Forbidden(
            "without API keys no page of another site may do this: "
            "ask as http://127.0.0.1 or http://localhost, or set auth.keys"
        )


def _from_loopback(caller: Caller) -> bool:
    # A proxy on this machine makes everybody loopback, and the loopback that a
    # trusted one tells of may be its own machine's, or made up by its client.
    if caller.host is None or caller.forwarded:
        return False
    try:
        return ipaddress.ip_address(caller.host).is_loopback
    except ValueError:
        return False
