"""What an item page is made of, remembered: its candidates and its encoded rows.

To gather the ids of a hundred candidates and to look them up again takes about
as long as all else that a page from the cache costs, and the same few pages are
asked for again and again.
"""

from collections import OrderedDict
from typing import Final

import msgspec
from msgspec import Struct

from service.cache.keys import request_digests
from service.deployments import Deployment, Deployments
from service.errors import NoCandidates, UnknownItem
from service.features import RequestRows
from service.messages import RankRequest

MOST_PAGES: Final = 2_048
"""A page of a hundred candidates takes about 10 KB."""


class KnownPage(Struct):
    """A page's request with its candidates, and the rows that it is encoded to."""

    deployment: Deployment
    candidates: tuple[str, ...]
    rows: RequestRows
    _last: tuple[RankRequest, RankRequest] | None = None

    def asked_as(self, page: RankRequest) -> RankRequest:
        """This request, with the candidates."""
        if self._last is None or self._last[0] is not page:
            self._last = page, msgspec.structs.replace(page, candidates=self.candidates)
        return self._last[1]


class KnownPages:
    """The pages that were asked for last. For one event loop.

    Args:
        deployments: When others serve, all is forgotten.
    """

    def __init__(self, deployments: Deployments) -> None:
        self._pages: OrderedDict[tuple[object, ...], KnownPage] = OrderedDict()
        deployments.on_change(self._pages.clear)

    def of(self, page: RankRequest, deployment: Deployment) -> KnownPage:
        """What a page is made of, with a deployment.

        Raises:
            UnknownItem: the catalogue has no such item.
            NoCandidates: the item has nothing beside it.
            InvalidRequest: a context value of the wrong kind.
        """
        # 1, 1.0 and "1" apart, as the model may.
        context = tuple((name, type(value), value) for name, value in page.context.items())
        place = (deployment.name, page.anchor_item, page.user.id, context)
        try:
            known = self._pages.get(place)
        except TypeError:  # a list among the context values
            return _made(page, deployment)
        if known is not None and known.deployment is deployment:
            self._pages.move_to_end(place)
            return known
        known = self._pages[place] = _made(page, deployment)
        if len(self._pages) > MOST_PAGES:
            self._pages.popitem(last=False)
        return known


def _made(page: RankRequest, deployment: Deployment) -> KnownPage:
    anchor = page.anchor_item or ""
    candidates = deployment.candidates_of(anchor)
    if candidates is None:
        raise UnknownItem(anchor)
    if not candidates:
        raise NoCandidates(anchor)
    request = msgspec.structs.replace(page, candidates=candidates)
    rows = deployment.features.encode(request)
    digests = request_digests(rows.user, rows.context, rows.items, rows.overrides)
    rows = msgspec.structs.replace(rows, digests=digests)
    return KnownPage(deployment, candidates, rows, (page, request))
