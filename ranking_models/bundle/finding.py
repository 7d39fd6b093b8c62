"""From what a deployment names to a bundle's folder."""

from datetime import datetime
from pathlib import Path

import msgspec

from ranking_models.bundle.layout import MANIFEST, NAME
from ranking_models.bundle.reading import read_manifest
from ranking_models.errors import BundleError


class BundleRef(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is there; only its manifest is verified."""

    name: str
    version: str
    created: datetime
    path: Path


def find_bundle(root: Path, reference: str) -> Path:
    """The folder of ``name`` (its newest version) or ``name@version`` under `root`.

    Raises:
        BundleError: there is none; says what there is.
    """
    name, at, version = reference.partition("@")
    if not NAME.fullmatch(name) or (at and not NAME.fullmatch(version)):
        raise BundleError(str(root), f"{reference!r} is not of the form name or name@version")
    if version:
        if not (root / name / version).is_dir():
            raise BundleError(str(root), f"there is no bundle {reference}; {_what_is_there(root)}")
        return _reference(root / name / version).path
    versions = _versions(root / name)
    if not versions:
        raise BundleError(str(root), f"there is no model {name}; {_what_is_there(root)}")
    return max(versions, key=lambda ref: (ref.created, ref.version)).path


def list_bundles(root: Path) -> tuple[BundleRef, ...]:
    """All bundles under `root`, by name, oldest version first."""
    found = [ref for model in _folders(root) for ref in _versions(model)]
    return tuple(sorted(found, key=lambda ref: (ref.name, ref.created, ref.version)))


def _versions(model: Path) -> list[BundleRef]:
    return [_reference(path) for path in _folders(model)]


def _reference(path: Path) -> BundleRef:
    manifest = read_manifest(path)
    if (manifest.name, manifest.version) != (path.parent.name, path.name):
        claimed = f"{manifest.name}/{manifest.version}"
        advice = "move the folder to where its manifest says"
        raise BundleError(str(path / MANIFEST), f"says that the bundle is {claimed}; {advice}")
    return BundleRef(
        name=manifest.name, version=manifest.version, created=manifest.created, path=path
    )


def _folders(parent: Path) -> list[Path]:
    """Folders that are not hidden; the writer hides what it has not finished."""
    if not parent.is_dir():
        return []
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))


def _what_is_there(root: Path) -> str:
    there = [f"{model.name}@{path.name}" for model in _folders(root) for path in _folders(model)]
    return f"there are: {', '.join(there)}" if there else f"{root} holds no bundles"
