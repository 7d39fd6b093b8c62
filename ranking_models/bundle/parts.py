"""Optional parts of a bundle that are made in one place and written in another."""

from msgspec import Struct

from ranking_models.manifest import ExactSplit, Segments
from ranking_models.schema import Float32, Int32


class SplitGraphs(Struct, frozen=True, kw_only=True):
    """The fp32 graph in three, each a serialised ONNX model.

    Every first-layer product is taken apart, ``W x = W_u x_u + W_i x_i``, so
    the user half runs once per request, the item half once per catalogue, and
    the row half does what needs both. Shapes, all float32 but the one index:

    * ``user``: the arrays of the user and context features, as
      ``FeatureBatch.inputs`` names them, ``[rows, ...]``; output ``user``
      ``[rows, U]``.
    * ``item``: the catalogue's arrays; output ``item`` ``[rows, I]``.
    * ``row``: ``user`` ``[users, U]``, ``user_of_row`` int32 ``[rows]``,
      ``item`` ``[rows, I]``; output ``score`` ``[rows]``. Or, where the sides
      meet in sums and an inner product alone: ``sums`` ``[rows, S]``, what the
      first ``S`` numbers of user and item add up to, and ``product`` ``[rows]``,
      the inner product of the others.
    """

    user: bytes
    item: bytes
    row: bytes
    figures: ExactSplit


class SegmentArrays(Struct, frozen=True, kw_only=True):
    """The users in groups that rank alike; `ranking_models.segments` says how they are made.

    Segment 0 is everybody's who is not among the bundle's users, anonymous
    visitors above all: its scores are those of the missing user, exactly.
    """

    users: Int32
    """Segment of each user, ``[users]``."""
    representatives: Int32
    """Positions of the users that speak for each segment, nearest to its centre first,
    ``[segments, R]``; -1 pads, and segment 0 has nobody."""
    scores: Float32
    """Per item and segment: the sigmoid of the representatives' mean log odds in the default
    context, ``[items, segments]``."""
    figures: Segments
