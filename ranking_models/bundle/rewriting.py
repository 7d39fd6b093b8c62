"""A new version of a bundle out of an existing one.

A bundle never changes, so whatever adds to one or corrects it reads all of it
back, replaces what is new (`msgspec.structs.replace`) and writes the next
version beside it with `write_bundle`.
"""

from ranking_models.bundle.parts import SplitGraphs
from ranking_models.bundle.reading import Bundle
from ranking_models.bundle.writing import BundleContents, Graph


def contents_of(bundle: Bundle) -> BundleContents:
    """What `write_bundle` was given for a bundle; written again it is the same version."""
    manifest = bundle.manifest
    graphs = {
        precision: Graph(
            onnx=bundle.graph(precision).read_bytes(),
            tolerance=variant.tolerance,
            parity=variant.parity,
            embedding_rows=variant.embedding_rows,
            quantisation=variant.quantisation,
            gate=variant.gate,
        )
        for precision, variant in manifest.precisions.items()
    }
    return BundleContents(
        name=manifest.name,
        created=manifest.created,
        architecture=manifest.architecture,
        schema=manifest.schema,
        graphs=graphs,
        arrays=bundle.arrays,
        max_batch_rows=manifest.max_batch_rows,
        quality=manifest.quality,
        data=manifest.data,
        tools=manifest.tools,
        lineage=manifest.lineage,
        candidates=manifest.candidates,
        split=_split_of(bundle),
        segments=bundle.segments,
    )


def _split_of(bundle: Bundle) -> SplitGraphs | None:
    figures = bundle.manifest.split
    if figures is None:
        return None
    return SplitGraphs(
        user=bundle.split_graph("user").read_bytes(),
        item=bundle.split_graph("item").read_bytes(),
        row=bundle.split_graph("row").read_bytes(),
        figures=figures,
    )
