"""What is loaded is out of the collector's sight, what nobody holds is freed all the same."""

import gc
import weakref

from service.heap import YOUNG, settle_again, settled


class Node:
    def __init__(self):
        self.itself = self


def test_what_is_loaded_is_not_looked_through_until_the_end():
    before = gc.get_threshold()
    with settled():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == YOUNG
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before


def test_what_is_let_go_is_freed_when_the_heap_settles_again():
    loaded = Node()
    seen = weakref.ref(loaded)
    with settled():
        del loaded
        gc.collect()
        assert seen() is not None  # out of sight
        settle_again()
        assert seen() is None


def test_nothing_is_settled_where_nothing_was():
    settle_again()

    assert gc.get_freeze_count() == 0
