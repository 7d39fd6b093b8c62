"""Signing keys of exposure tokens and slate ids: from the settings, else from a file."""

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from service.errors import StartupError
from service.settings import EventSettings

KEY_BYTES = 32
KEY_FILE = "signing.key"
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
"""What a key id may be: it stands between dots in a token."""


class SigningKeys:
    """Keys by id; one of them signs, all of them verify, so that keys can be rotated."""

    def __init__(self, keys: Mapping[str, bytes], signing: str) -> None:
        self.by_id = dict(keys)
        self.signing = signing

    @property
    def signing_key(self) -> bytes:
        return self.by_id[self.signing]


def signature_of(key: bytes, text: str) -> str:
    """HMAC-SHA256 of a text, as text."""
    return base64url(hmac.digest(key, text.encode(), "sha256"))


def base64url(data: bytes) -> str:
    """URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def load_signing_keys(settings: EventSettings, state_directory: Path) -> SigningKeys:
    """The keys of the settings, else the one in the state directory, made if need be.

    Raises:
        StartupError: a key is too short or not hex, the signing key is not
            named or unknown, or the key file cannot be trusted or written.
    """
    if not settings.keys:
        if settings.signing_key is not None:
            raise StartupError(
                f"events.signing_key names {settings.signing_key!r} but events.keys is empty: "
                "add the key there, or leave both out to have one made"
            )
        key = _key_from_file(state_directory / KEY_FILE)
        # The id follows from the key, so that replicas that share the file agree on it.
        key_id = hashlib.sha256(key).hexdigest()[:8]
        return SigningKeys({key_id: key}, key_id)
    keys = {key_id: _configured_key(key_id, text) for key_id, text in settings.keys.items()}
    return SigningKeys(keys, _signing_key_id(settings))


def _configured_key(key_id: str, text: str) -> bytes:
    if KEY_ID.fullmatch(key_id) is None:
        raise StartupError(
            f"events.keys: {key_id!r} cannot be a key id; use 1 to 32 letters, digits, - and _"
        )
    return _key_from_hex(text, f"events.keys.{key_id}")


def _key_from_hex(text: str, where: str) -> bytes:
    try:
        key = binascii.unhexlify(text.strip())
    except (binascii.Error, ValueError):
        # Never show the text: it is a secret, if a mistyped one.
        raise StartupError(f"{where} is not hex; `openssl rand -hex 32` makes a key") from None
    if len(key) < KEY_BYTES:
        raise StartupError(
            f"{where} has {len(key)} bytes, at least {KEY_BYTES} are needed; "
            "`openssl rand -hex 32` makes a key"
        )
    return key


def _signing_key_id(settings: EventSettings) -> str:
    names = ", ".join(sorted(settings.keys))
    if settings.signing_key is None:
        if len(settings.keys) > 1:
            raise StartupError(f"events.signing_key must say which of these keys signs: {names}")
        return next(iter(settings.keys))
    if settings.signing_key not in settings.keys:
        raise StartupError(
            f"events.signing_key is {settings.signing_key!r}, but events.keys has only: {names}"
        )
    return settings.signing_key


def _key_from_file(path: Path) -> bytes:
    try:
        if not path.exists():
            _create_key_file(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
            mode = os.fstat(descriptor).st_mode & 0o777
            text = file.read()
    except OSError as error:
        raise StartupError(f"the signing key {path} cannot be used: {error.strerror}") from None
    if mode & 0o077:
        # Not repaired in silence: whoever could read the key can forge clicks with it.
        raise StartupError(
            f"others may read the signing key {path} (mode {mode:o}): run `chmod 600 {path}`, "
            "or delete the file for a new key if it may have been read"
        )
    return _key_from_hex(text, f"the signing key {path}")


def _create_key_file(path: Path) -> None:
    """Make a key that is on the disk, whole, before anybody can see the file.

    Workers start together: `link` lets exactly one of them win, and none of
    them reads a half-written file.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, draft = tempfile.mkstemp(prefix=".signing-", dir=path.parent)  # O_EXCL, 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        Path(draft).unlink()
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Put the names in a directory on the disk: fsync of a file covers only its content."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def signed_token(keys: SigningKeys, version: str, claims: msgspec.Struct) -> str:
    """``<version>.<key id>.<base64url JSON>.<signature>``, by the key that signs."""
    signed = f"{version}.{keys.signing}.{base64url(msgspec.json.encode(claims))}"
    return f"{signed}.{signature_of(keys.signing_key, signed)}"
