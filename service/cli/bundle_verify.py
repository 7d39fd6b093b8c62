"""``podium bundle verify``: prove that a bundle is what it says."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from service.cli.answers import AsJson, print_json, print_lines
from service.cli.bundle_location import Root, located
from service.cli.gate_lines import gates_of, key_figures, verdict

if TYPE_CHECKING:
    from ranking_models.bundle import Bundle
    from ranking_models.manifest import ModeCost, ModelManifest


class Checked(NamedTuple):
    """One way to score, held against a better one on the golden rows."""

    reference: str
    rows: int
    difference: float
    tolerance: float


def verify(
    bundle: Annotated[
        str, typer.Argument(help="A bundle's folder, or name or name@version.", metavar="BUNDLE")
    ],
    bundles: Root = None,
    as_json: AsJson = False,
) -> None:
    """Check every byte of a bundle, its graphs on the golden rows, and its gates' verdicts.

    Example: podium bundle verify bundles/movielens/3f9c2a1b
    """
    from ranking_models.bundle import Bundle
    from ranking_models.gates import check_verdict

    opened = Bundle.open(located(bundles, bundle))
    graphs = dict(_graphs(opened))
    manifest = opened.manifest
    for name, gate in gates_of(manifest):
        check_verdict(gate, what=f"{opened.path}: {name}")
    if as_json:
        return print_json(
            {
                "model": f"{manifest.name}@{manifest.version}",
                "path": opened.path,
                "sound": True,
                "files": len(manifest.files) + 1,
                "graphs": {name: found._asdict() for name, found in graphs.items()},
                "gates": dict(gates_of(manifest)),
                "cache_modes": _modes(manifest),
            }
        )
    return print_lines(_lines(opened, graphs))


def _graphs(bundle: "Bundle") -> Iterator[tuple[str, Checked]]:
    """Every graph with how far its scores are from what they should be.

    Raises:
        BundleError: too far.
    """
    from ranking_models.onnx_runtime import onnx_runtime_scorer
    from ranking_models.parity import check_parity

    rows, reference = bundle.golden
    for precision, variant in bundle.manifest.precisions.items():
        graph = bundle.graph(precision)
        difference = check_parity(
            onnx_runtime_scorer(graph),
            rows,
            reference,
            tolerance=variant.tolerance,
            what=str(graph),
        )
        yield precision, Checked("the reference", rows.rows, difference, variant.tolerance)
    if bundle.manifest.split is not None:
        yield "split", _split(bundle)


def _split(bundle: "Bundle") -> Checked:
    from ranking_models.exact_split import SPLIT_TOLERANCE, split_scorer
    from ranking_models.onnx_runtime import onnx_runtime_scorer
    from ranking_models.parity import check_parity

    rows, _ = bundle.golden
    split = split_scorer(
        bundle.manifest.schema,
        user=bundle.split_graph("user"),
        item=bundle.split_graph("item"),
        row=bundle.split_graph("row"),
    )
    whole = onnx_runtime_scorer(bundle.graph("fp32"))(rows)
    what = f"{bundle.path / 'split'} against the whole graph (fp32)"
    difference = check_parity(split, rows, whole, tolerance=SPLIT_TOLERANCE, what=what)
    return Checked("the whole graph", rows.rows, difference, SPLIT_TOLERANCE)


def _lines(bundle: "Bundle", graphs: dict[str, Checked]) -> Iterator[str]:
    from ranking_models.cache_evaluation.measure import CacheOptions
    from ranking_models.cache_evaluation.text import advice

    manifest = bundle.manifest
    for name, found in graphs.items():
        allowed = f"{found.difference:.1g} from {found.reference} (allowed {found.tolerance:g})"
        yield f"{name}: {found.rows} golden rows at most {allowed}"
    for name, gate in gates_of(manifest):
        yield f"{name}: gate {verdict(gate)} against {gate.reference}: {key_figures(gate)}"
    modes = _modes(manifest)
    if modes is not None:
        yield f"cache modes: {advice(modes, k=CacheOptions().k)}"
    yield f"{manifest.name}@{manifest.version} is sound: {len(manifest.files) + 1} files"


def _modes(manifest: "ModelManifest") -> "tuple[ModeCost, ...] | None":
    segments = manifest.segments
    return None if segments is None or segments.modes is msgspec.UNSET else segments.modes
