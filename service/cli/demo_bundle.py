"""``podium demo-bundle``: the demonstration bundle, made from nothing."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.answers import AsJson, print_json, print_lines
from service.cli.bundle_location import written_bundle

if TYPE_CHECKING:
    from ranking_models.bundle import Bundle

JUDGED_SESSIONS = 1000


def demo_bundle(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of bundles. Without it: where `podium serve` finds the demonstration; "
            "other versions of it there are removed.",
            metavar="DIR",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Keep nothing: make it again and compare it with the one in place."
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Simulate the demonstration's log, train its model, and export the bundle.

    Takes some minutes, and needs the train extra.

    Example: podium demo-bundle --check
    """
    from ranking_models.demonstration import remove_other_versions
    from service.deployments import bundle_directory
    from service.settings import demo_settings_file, load_settings

    place = out or bundle_directory(load_settings(demo_settings_file(), environ={}))
    if check:
        return _check(place, as_json=as_json)
    made = _make(place)
    removed = list(remove_other_versions(made.path)) if out is None else []
    if as_json:
        print_json({**_facts(made), "removed": removed})
    else:
        print_lines([*(f"removed {other}" for other in removed), *_lines(_facts(made))])
    return 0


def _make(root: Path) -> "Bundle":
    from datetime import UTC, datetime

    from ranking_models.bundle import Bundle
    from ranking_models.demonstration import make_bundle
    from ranking_models.recipes import DEMONSTRATION
    from service.cli.training_progress import drawn_progress
    from service.clock import SystemClock

    created = datetime.fromtimestamp(SystemClock().wall(), UTC)
    with drawn_progress(sys.stderr) as progress:
        made = make_bundle(DEMONSTRATION, root, created=created, progress=progress)
    return Bundle.open(made)


def _check(root: Path, *, as_json: bool) -> int:
    from ranking_models.bundle import Bundle, find_bundle
    from ranking_models.demonstration import SCORE_TOLERANCE, largest_difference
    from ranking_models.recipes import NAME

    in_place = Bundle.open(find_bundle(root, NAME))
    with tempfile.TemporaryDirectory(prefix="podium-demo-bundle-") as scratch:
        again = _make(Path(scratch))
        difference = largest_difference(in_place, again)
        facts = _facts(again)
    same = difference <= SCORE_TOLERANCE
    if as_json:
        compared = {"path": in_place.path, "same": same, "difference": difference}
        print_json({**facts, "path": None, "compared": compared})
    else:
        verdict = (
            f"{'same as' if same else 'DIFFERS from'} {in_place.path}: same data, largest score "
            f"difference {difference:.1e} (at most {SCORE_TOLERANCE:g})"
        )
        print_lines([*_lines(facts), verdict])
    return 0 if same else 1


def _facts(bundle: "Bundle") -> dict[str, Any]:
    """Where it is, how large, how good, and what its order is worth to the shoppers."""
    from ranking_models.marketplace import Marketplace, MarketplaceSpec
    from ranking_models.marketplace.spec import SHOPPERS_SEED
    from ranking_models.onnx_runtime import onnx_runtime_scorer
    from service.demo.orders import compare_orders

    orders = compare_orders(
        Marketplace.generate(MarketplaceSpec()),
        bundle,
        onnx_runtime_scorer(bundle.graph("fp32")),
        sessions=JUDGED_SESSIONS,
        seed=SHOPPERS_SEED,
    )
    return {
        **written_bundle(bundle.path),
        "bytes": sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file()),
        "quality": bundle.manifest.quality,
        "orders": {
            name: {"true_ctr": found.ctr, "true_ndcg_at_10": found.ndcg}
            for name, found in orders.items()
        },
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    quality = facts["quality"]
    yield (
        f"{facts['path']}: {facts['bytes'] / 1e6:.2f} MB, AUC {quality.auc:.4f}, log loss "
        f"{quality.log_loss:.4f} on the {quality.split}"
    )
    yield "order of the candidates   true CTR of 10 shown   true NDCG@10"
    for name, found in facts["orders"].items():
        yield f"{name:<24}  {found['true_ctr']:>20.2%}   {found['true_ndcg_at_10']:>12.3f}"
