"""Which networks there are, and the sizes that make one: without torch.

One struct per architecture, told apart by ``name`` in JSON, so that none
carries a size that it does not read. The networks themselves are in
`ranking_models.nn`, one file each.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

Width = Annotated[int, Meta(ge=1, le=65_536)]
Widths = tuple[Width, ...]
Depth = Annotated[int, Meta(ge=1, le=16)]
EmbeddingDim = Annotated[int, Meta(ge=1, le=1024)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class _Sizes(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name"
):
    """What every struct below has in common: its name."""

    @property
    def name(self) -> str:
        """The architecture's name on the wire and the command line."""
        return str(self.__struct_config__.tag)


class LogisticRegression(_Sizes, frozen=True, kw_only=True, tag="logistic-regression"):
    """One weight per value; the floor that every other model must clear."""


class WideAndDeep(_Sizes, frozen=True, kw_only=True, tag="wide-and-deep"):
    """A linear model beside an MLP."""

    embedding_dim: EmbeddingDim
    hidden: Widths
    dropout: Share = 0.0


class DeepFM(_Sizes, frozen=True, kw_only=True, tag="deepfm"):
    """A factorisation machine beside an MLP."""

    embedding_dim: EmbeddingDim
    hidden: Widths
    dropout: Share = 0.0


class DCNv2(_Sizes, frozen=True, kw_only=True, tag="dcn-v2"):
    """A cross network beside an MLP."""

    embedding_dim: EmbeddingDim
    cross_layers: Depth
    hidden: Widths
    dropout: Share = 0.0
    cross_rank: Annotated[int, Meta(ge=0)] = 0
    """Rank of the cross layers' matrices; 0 is the full matrix."""
    cross_experts: Annotated[int, Meta(ge=1, le=64)] = 1
    """Low-rank experts per cross layer, mixed by a gate; 1 with full matrices."""

    def __post_init__(self) -> None:
        if self.cross_experts > 1 and not self.cross_rank:
            raise ValueError("cross_experts needs a cross_rank: only low-rank layers are mixed")


class DLRM(_Sizes, frozen=True, kw_only=True, tag="dlrm"):
    """Pairwise inner products of field vectors, between two MLPs."""

    embedding_dim: EmbeddingDim
    bottom: Widths
    """Widths of the MLP on the numeric features; a last layer to ``embedding_dim`` follows."""
    hidden: Widths
    """Widths of the MLP on the products."""
    dropout: Share = 0.0


class TwoTower(_Sizes, frozen=True, kw_only=True, tag="two-tower"):
    """A user tower and an item tower, joined by an inner product."""

    embedding_dim: EmbeddingDim
    hidden: Widths
    """Widths of either tower's MLP."""
    output_dim: Width
    """Width of the vectors that are multiplied."""
    dropout: Share = 0.0


class Imported(_Sizes, frozen=True, kw_only=True, tag="imported"):
    """A ranker that was brought as an ONNX file; Podium cannot train it further."""

    producer: str
    """What the file says made it."""
    sha256: str
    """Of the file that was imported."""


Architecture = LogisticRegression | WideAndDeep | DeepFM | DCNv2 | DLRM | TwoTower | Imported
"""The sizes of one network; ``name`` says which."""
