"""The ids that items, users and sellers have outside: ``i00042``, ``u00042``, ``s0042``."""

from collections.abc import Iterable

import numpy as np

from ranking_models.errors import InputError
from ranking_models.marketplace.exact import Int64
from ranking_models.marketplace.truth import ANONYMOUS


def item_id(index: int) -> str:
    return f"i{index:05d}"


def user_id(index: int) -> str | None:
    """The user's id; None for `ANONYMOUS`."""
    return None if index == ANONYMOUS else f"u{index:05d}"


def seller_id(index: int) -> str:
    return f"s{index:04d}"


def item_indices(ids: Iterable[str], items: int) -> Int64:
    """The indices of item ids.

    Raises:
        InputError: an id that a marketplace of so many items does not have.
    """
    return np.array([_item_index(name, items) for name in ids], np.int64)


def _item_index(name: str, items: int) -> int:
    digits = name[1:]
    if digits.isascii() and digits.isdigit() and int(digits) < items:
        index = int(digits)
        if name == item_id(index):
            return index
    raise InputError(
        f"item {name!r} is not in this marketplace of {items} items: the model was trained on "
        "another one; give its --seed, --items and --users"
    )
