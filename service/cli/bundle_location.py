"""How command-line verbs are told of a bundle, and tell of one."""

from pathlib import Path


def locate(root: Path, reference: str) -> Path:
    """A folder as it is, or a name or name@version under `root`.

    Raises:
        BundleError: there is no such bundle.
    """
    from ranking_models.bundle import find_bundle

    path = Path(reference)
    is_path = "/" in reference or (path / "manifest.json").exists()
    return path if is_path else find_bundle(root, reference)


def written_bundle(path: Path) -> dict[str, object]:
    """A bundle that was just written, for programs."""
    name, version = path.parent.name, path.name
    return {"path": path, "name": name, "version": version, "model": f"{name}@{version}"}
