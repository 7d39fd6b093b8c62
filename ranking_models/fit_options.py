"""How a network is fitted: without torch, so that what names a training needs none."""

import msgspec


class FitOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to fit; the defaults were chosen on validation rows of MovieLens-100K."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    """Decoupled (AdamW). Rare ids, which few gradients hold up, shrink towards zero."""
    batch_size: int = 256
    epochs: int = 40
    """At most, while there are validation rows to stop by."""
    patience: int = 3
    """Epochs without a better validation log loss before training stops."""
    hidden_share: float = 0.02
    """Share of rows that train with an unknown user; likewise with an unknown item."""
    seed: int = 1
    double: bool = False
    """Train in double precision. It takes up to twice as long, and scores then agree to 1e-6
    between kinds of CPU; in single precision rounding grows to differences of 0.01."""
