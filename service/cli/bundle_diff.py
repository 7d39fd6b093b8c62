"""``podium bundle diff``: what differs between two bundles."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.answers import AsJson, print_json, print_lines
from service.cli.bundle_location import locate

if TYPE_CHECKING:
    from ranking_models.bundle.diffing import BundleDiff, Changes, PrecisionPair
    from ranking_models.manifest import Variant

Reference = Annotated[
    str, typer.Argument(help="A bundle's folder, or name or name@version.", show_default=False)
]

_NAMED = 10
"""Names of a kind of change that are shown; JSON has all of them."""


def diff(
    before: Reference,
    after: Reference,
    bundles: Annotated[
        Path, typer.Option("--bundles", help="Folder in which names are looked up.", metavar="DIR")
    ] = Path("bundles"),
    as_json: AsJson = False,
) -> None:
    """Show what changed from one bundle to another: features, model, figures, items, files.

    Example: podium bundle diff movielens@3f9c2a1b movielens
    """
    from ranking_models.bundle import Bundle
    from ranking_models.bundle.diffing import diff_bundles
    from ranking_models.onnx_runtime import onnx_runtime_scorer

    one, other = (Bundle.open(locate(bundles, reference)) for reference in (before, after))
    found = diff_bundles(
        one,
        other,
        onnx_runtime_scorer(one.graph("fp32")),
        onnx_runtime_scorer(other.graph("fp32")),
    )
    print_json(found) if as_json else print_lines(_description(found))


def _description(found: "BundleDiff") -> Iterable[str]:
    yield f"{found.before} -> {found.after}"
    yield from _changes("features", found.schema)
    if found.architecture:
        before, after = found.architecture
        yield from (f"architecture  {before}", f"           -> {after}")
    else:
        yield "architecture  the same"
    for pair in found.precisions:
        yield f"precision     {_precision(pair)}"
    if not found.precisions:
        yield "precisions    the same"
    for name, (was, now) in found.quality.items():
        yield f"quality       {name} {was:g} -> {now:g}"
    if not found.quality:
        yield "quality       the same"
    elif not found.same_split:
        yield "quality       measured on different rows: the figures do not compare"
    yield from _changes("items", found.items)
    yield from _changes("files", found.files)
    golden = found.golden
    if golden is None:
        yield "scores        not compared: no golden row means the same in both"
    else:
        difference = f"{golden.max_difference:.1g} on {golden.rows} shared golden rows"
        yield f"scores        fp32 differ by at most {difference}"


def _changes(what: str, changes: "Changes") -> Iterable[str]:
    if not changes:
        yield f"{what:13} the same"
    for kind in ("added", "removed", "changed"):
        names = getattr(changes, kind)
        if names:
            more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
            yield f"{what:13} {len(names):,} {kind}: {', '.join(names[:_NAMED])}{more}"


def _precision(pair: "PrecisionPair") -> str:
    return f"{pair.precision}: {_variant(pair.before)} -> {_variant(pair.after)}"


def _variant(variant: "Variant | None") -> str:
    if variant is None:
        return "none"
    parity = f"parity {variant.parity:.1g}"
    if variant.gate is None:
        return parity
    figures = variant.gate.figures
    verdict = "passed" if variant.gate.passed else "failed"
    return (
        f"{parity}, gate {verdict}, AUC {100 * figures.auc_change.value:+.3f} %, "
        f"top 10 overlap {figures.top10_overlap:.4f}"
    )
