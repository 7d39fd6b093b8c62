"""The bundle: everything that serving a model needs, in one immutable folder.

This is the border between training and serving, and it needs neither torch
nor Podium to be read. At ``<root>/<name>/<version>/``::

    manifest.json                      what all of it is; `ranking_models.manifest`
    ranker.fp32.onnx                   the graph
    catalogue/item_ids.npy             text [items]
    catalogue/{dense,ids,multi_*}.npy  encoded item features, one row per item
    users/user_ids.npy                 text [users]
    users/{dense,ids,multi_*}.npy      encoded user features, one row per user
    candidates.npy                     int32 [items, C], padded with -1
    popularity.npy                     int32 [items], most popular first
    golden.npz                         dense, ids, multi_*, score of 256 rows

and, where the manifest has ``split`` and ``segments``::

    split/{user,item,row}.onnx         the graph in three; `ranking_models.bundle.parts`
    segments/users.npy                 int32 [users], the segment of each user
    segments/representatives.npy       int32 [G, R] user positions, padded with -1
    segments/scores.npy                float32 [items, G]

**Columns.** ``schema.features`` in the manifest is an ordered list. The
``numeric`` features in that order are the columns of ``dense`` (float32), the
``categorical`` ones those of ``ids`` (int32), and each ``multi`` one is an
input of its own, ``multi_<name>`` (int32 ``[n, max_length]``). The graph and
the golden rows take all columns; the catalogue holds those with
``source = "item"`` and the users those with ``source = "user"``, each in the
same order and already encoded. Context features are in no file.

**A row of (user, item, context)** by hand, with numpy and ONNX Runtime alone:

1. For every feature take the encoded value: of an item feature from the
   catalogue at the item's position in ``item_ids``, of a user feature from the
   users at the user's position in ``user_ids``, of a context feature by
   encoding the raw value as in (4). Put it into its column of ``dense``,
   ``ids`` or ``multi_<name>``. The context feature ``anchor_item``, if the
   model has it, is the id of the request's anchor item.
2. An item that is not in the catalogue and an anonymous user have the encoding
   of a missing value (4) in each of their columns. So has a user that
   ``user_ids`` does not hold, but for the feature ``user_id``, if the model has
   it: that is the id's own encoding. So has a context feature left out.
3. A feature value that a request carries for the user or a candidate replaces
   that one column, encoded as in (4). ``user_id`` and ``item_id`` cannot be
   replaced.
4. Encoding a raw value, in order:

   * missing (absent or null): the feature's ``default`` stands in for it. If
     that is null too: 0 in ``dense``, 0 in ``ids``, all 0 in ``multi_<name>``.
   * numeric: ``x = sign(x) * log(1 + |x|)`` if ``log`` is set, then
     ``(x - mean) / scale``, cut to ``[-clip, clip]``, in double precision;
     then float32.
   * categorical: 1 + the index of its text in ``vocabulary``, 0 if it is not
     there. A whole number such as 3.0 is the text "3", any other the shortest
     decimal that reads back the same, a boolean "true" or "false".
   * multi: the known values' ids in the order given (a single value is a list
     of one), the first ``max_length`` of them, then 0.

5. Feed the inputs that the graph has. **An input without columns is not in the
   graph**: with no numeric feature there is no ``dense``, with no categorical
   one no ``ids``. The row axis of every input is named ``rows``; the output
   ``score`` is float32 ``[rows]``.

A row's score depends on that row alone, up to rounding (about 1e-7), so rows
can be scored in any batch.

**Segments** group users that rank alike, so that one cached row of ``G`` scores
per item serves everybody: ``scores[item, g]`` is the sigmoid of the mean log
odds that the representatives of ``g`` give the item with no context (4).
Segment 0 is everybody's who is not in ``user_ids``; its scores are the missing
user's own, and it has no representatives.

**The exact split** computes the fp32 scores with the user's part once per
request and the item's part once per catalogue. ``user.onnx`` takes the arrays
of the user and context features, ``item.onnx`` those of the item features,
each in the order of the columns above; ``row.onnx`` takes ``user``
``[users, U]``, ``user_of_row`` int32 ``[rows]`` and ``item`` ``[rows, I]``; or
``sums`` and ``product`` of them, see `ranking_models.bundle.parts`.

**Trust.** `Bundle.open` checks every byte against the manifest, refuses what
the manifest does not list, and never unpickles.
"""

from ranking_models.bundle.finding import BundleRef, find_bundle, list_bundles
from ranking_models.bundle.layout import BundleArrays, id_array
from ranking_models.bundle.parts import SegmentArrays, SplitGraphs
from ranking_models.bundle.reading import Bundle, read_manifest
from ranking_models.bundle.writing import BundleContents, Graph, write_bundle

__all__ = [
    "Bundle",
    "BundleArrays",
    "BundleContents",
    "BundleRef",
    "Graph",
    "SegmentArrays",
    "SplitGraphs",
    "find_bundle",
    "id_array",
    "list_bundles",
    "read_manifest",
    "write_bundle",
]
