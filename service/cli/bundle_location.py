"""How command-line verbs are told of a bundle."""

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
