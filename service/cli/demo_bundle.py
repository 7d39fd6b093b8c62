"""``podium demo-bundle``: the demonstration bundle, made from nothing."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
        return _check(place)
    made = _make(place)
    if out is None:
        for other in remove_other_versions(made.path):
            print(f"removed {other}")
    _describe(made)
    return 0


def _make(root: Path) -> "Bundle":
    from datetime import UTC, datetime

    from ranking_models.bundle import Bundle
    from ranking_models.demonstration import DEMONSTRATION, make_bundle
    from service.cli.training_progress import drawn_progress
    from service.clock import SystemClock

    created = datetime.fromtimestamp(SystemClock().wall(), UTC)
    with drawn_progress(sys.stderr) as progress:
        made = make_bundle(DEMONSTRATION, root, created=created, progress=progress)
    return Bundle.open(made)


def _check(root: Path) -> int:
    from ranking_models.bundle import Bundle, find_bundle
    from ranking_models.demonstration import NAME, SCORE_TOLERANCE, largest_difference

    in_place = Bundle.open(find_bundle(root, NAME))
    with tempfile.TemporaryDirectory(prefix="podium-demo-bundle-") as scratch:
        again = _make(Path(scratch))
        difference = largest_difference(in_place, again)
        _describe(again)
    same = difference <= SCORE_TOLERANCE
    print(
        f"{'same as' if same else 'DIFFERS from'} {in_place.path}: same data, largest score "
        f"difference {difference:.1e} (at most {SCORE_TOLERANCE:g})"
    )
    return 0 if same else 1


def _describe(bundle: "Bundle") -> None:
    from ranking_models.marketplace import Marketplace, MarketplaceSpec
    from ranking_models.marketplace.spec import SHOPPERS_SEED
    from ranking_models.onnx_runtime import onnx_runtime_scorer
    from service.demo.orders import compare_orders

    size = sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
    quality = bundle.manifest.quality
    print(
        f"{bundle.path}: {size / 1e6:.2f} MB, AUC {quality.auc:.4f}, log loss "
        f"{quality.log_loss:.4f} on the {quality.split}"
    )
    orders = compare_orders(
        Marketplace.generate(MarketplaceSpec()),
        bundle,
        onnx_runtime_scorer(bundle.graph("fp32")),
        sessions=JUDGED_SESSIONS,
        seed=SHOPPERS_SEED,
    )
    print("order of the candidates   true CTR of 10 shown   true NDCG@10")
    for name, found in orders.items():
        print(f"{name:<24}  {found.ctr:>20.2%}   {found.ndcg:>12.3f}")
