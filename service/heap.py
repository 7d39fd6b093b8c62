"""What Python's garbage collector looks through while the service answers.

A full collection walks over everything that was ever loaded, bundles and
framework alike, and holds up every request of the process meanwhile, for a
tenth of a second and more with a catalogue of 100,000 items. What stays as
long as the process is therefore taken out of its sight.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 20_000
"""New objects between two looks at the young ones. Requests leave next to no cycles behind;
Python's own 700 are made by a dozen of them."""


@contextmanager
def settled() -> Iterator[None]:
    """From here on everything is loaded, until the block ends."""
    thresholds = gc.get_threshold()
    gc.set_threshold(YOUNG, *thresholds[1:])
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def settle_again() -> None:
    """Something large was let go: free it even where it holds itself; only between the two."""
    if gc.get_freeze_count():
        gc.unfreeze()
        gc.collect()
        gc.freeze()
