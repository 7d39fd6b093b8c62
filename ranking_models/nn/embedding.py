"""Feature values to vectors: the first layer of every ranking network."""

from itertools import accumulate

import torch
from torch import Tensor, nn

from ranking_models.schema import FeatureSchema


class FieldEmbedding(nn.Module):
    """One vector per categorical and multi-valued feature (a "field").

    ``e_f = E[id_f]`` for a categorical feature, ``e_m = mean of E[id]`` over
    the non-zero ids of a multi-valued one (zero without any). Row 0 of every
    feature stands for all unknown values and is trained like the others.

    All vocabularies share one table ``E``, each behind its own offset: one
    gather per input instead of one per feature, on the CPU and on a GPU.

    Shapes:
        ``ids`` int32 ``[n, F]``, each of M ``multi`` int32 ``[n, L]``;
        output ``[n, F + M, dim]``.
    """

    def __init__(self, schema: FeatureSchema, dim: int, std: float = 0.01) -> None:
        super().__init__()
        sizes = [spec.last_id + 1 for spec in (*schema.ids, *schema.multi)]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self.fields = len(sizes)
        self.sizes = sizes
        self.dim = dim
        # Never empty: a table without rows has no gradient and exports badly.
        self.table = nn.Embedding(max(sum(sizes), 1), dim)
        nn.init.normal_(self.table.weight, std=std)
        self.id_starts: Tensor
        ids_starts = torch.tensor(starts[: len(schema.ids)], dtype=torch.int32)
        self.register_buffer("id_starts", ids_starts, persistent=False)
        self.multi_starts = starts[len(schema.ids) :]

    def forward(self, ids: Tensor, *multi: Tensor) -> Tensor:
        vectors = [self.table(ids + self.id_starts)]  # [n, F, dim]
        for start, values in zip(self.multi_starts, multi, strict=True):
            known = (values != 0).unsqueeze(-1).to(vectors[0].dtype)  # [n, L, 1]
            total = (self.table(values + start) * known).sum(dim=1, keepdim=True)
            vectors.append(total / known.sum(dim=1, keepdim=True).clamp(min=1.0))
        return torch.cat(vectors, dim=1)

    def take_over(self, earlier: "FieldEmbedding") -> None:
        """Copy the rows of an earlier table whose vocabularies these go on from."""
        ends = zip(accumulate(self.sizes), accumulate(earlier.sizes), strict=True)
        with torch.no_grad():
            for (end, earlier_end), size, earlier_size in zip(
                ends, self.sizes, earlier.sizes, strict=True
            ):
                own = self.table.weight[end - size :][:earlier_size]
                own.copy_(earlier.table.weight[earlier_end - earlier_size : earlier_end])
