"""How command-line verbs are told of a bundle, and tell of one."""

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[
    Path | None,
    typer.Option(
        "--bundles",
        help='Folder in which names are looked up. Default: "bundles"; `marketplace` is the '
        "demonstration, unless that folder has a model of the name.",
        metavar="DIR",
    ),
]


def locate(root: Path, reference: str) -> Path:
    """A folder as it is, or a name or name@version under `root`.

    Raises:
        BundleError: there is no such bundle.
    """
    from ranking_models.bundle import find_bundle

    path = Path(reference)
    is_path = "/" in reference or (path / "manifest.json").exists()
    return path if is_path else find_bundle(root, reference)


def located(root: Path | None, reference: str) -> Path:
    """The same for verbs that only look: the name of the demonstration is found without its folder.

    Args:
        root: As given; None for the default, ``bundles``, where a model of that name comes first.
        reference: A folder, a name or name@version.

    Raises:
        BundleError: there is no such bundle.
    """
    from ranking_models.bundle import list_bundles

    name = reference.partition("@")[0]
    there = Path("bundles")
    if root is None and not (there / name).exists():
        shipped = demonstration()
        if any(found.name == name for found in list_bundles(shipped)):
            return locate(shipped, reference)
    return locate(root or there, reference)


def demonstration() -> Path:
    """The folder of the bundle that ships with Podium."""
    from service.deployments import bundle_directory
    from service.settings import demo_settings_file, load_settings

    return bundle_directory(load_settings(demo_settings_file(), environ={}))


def written_bundle(path: Path) -> dict[str, object]:
    """A bundle that was just written, for programs."""
    name, version = path.parent.name, path.name
    return {"path": path, "name": name, "version": version, "model": f"{name}@{version}"}
