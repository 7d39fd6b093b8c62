"""What the admin calls of the cache take and answer."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from service.messages import Decisions, Features, ModelRef, Name, Text

MOST_PAGES = 1_000
"""Item pages that one call may warm; a longer list is warmed call by call."""
MOST_TOP = 100_000_000

Place = Annotated[int, Meta(ge=0, le=MOST_TOP)]
Rate = Annotated[float, Meta(gt=0, le=1e6)]


class PageOf(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose item pages: an entry serves whoever would be asked about in the same words."""

    context: Features = {}
    """As the pages' own requests give it: ``surface`` and context features."""
    user_id: Text | None = None
    """Nobody known without it."""
    deployment: Name | None = None
    """What serves them; without it the surface's own, whatever experiments run."""
    force: Decisions = {}
    """Experiment key to variant, as requests have it: the pages that these variants serve. Where an
    experiment isolates its arms, these are other entries than everybody's."""


class WarmRequest(PageOf, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some item pages to be computed and kept, the most popular first."""

    top: Annotated[int, Meta(ge=1, le=MOST_TOP)]
    """How far down the popularity order all calls together go."""
    first: Place | None = None
    """The place in the popularity order to begin at, from 0; without it where the last
    warming of such pages has got to."""
    pages: Annotated[int, Meta(ge=1, le=MOST_PAGES)] = 200
    """The most that this call does."""
    rate_per_s: Rate | None = None
    """The most pages per second; as many as idle time allows without it."""


class WarmReply(Struct, frozen=True, kw_only=True):
    """What one call has done. It may have done nothing: live traffic goes first."""

    deployment: str
    model: ModelRef
    epoch: int
    """Of another one, what was warmed before is gone."""
    top: int
    """As far as there are items."""
    first: int
    next: int
    """The place to go on at."""
    computed: int
    cached: int
    """Pages that the cache had already."""
    empty: int
    """Items that have nothing beside them."""
    failed: int
    """Pages that no engine scored, or not the deployment's own."""
    waited_s: float
    """Time left to live traffic."""

    @property
    def is_done(self) -> bool:
        return self.next >= self.top


class NoBody(Struct, frozen=True):
    """Nothing is to be said."""


class CacheFlushed(Struct, frozen=True, kw_only=True):
    """A purge: entries of earlier epochs are never found again, and leave as they expire."""

    epoch: int
    """In force here now, on every other replica within a second."""


class ServerFigures(Struct, frozen=True, kw_only=True):
    """What the cache server tells of itself; of a cluster, its primaries added up."""

    nodes: int
    keys: int
    """Of the whole database, whoever put them there."""
    used_memory_bytes: int
    max_memory_bytes: int
    """0: no limit."""
    policy: str
    """What goes when it is full."""
    evicted: int
    """Keys that went because it was full, since the server's start."""
    expired: int


class KeyCount(Struct, frozen=True, kw_only=True):
    """How many keys there are of each kind, as far as was looked."""

    slates: int = 0
    rows: int = 0
    older: int = 0
    """Of earlier epochs: they will never be read again."""
    other: int = 0
    """No scores: locks, notes, and whatever others put there."""
    is_complete: bool = True
    """False: looking ended at its limit, there are more."""


class LookupCounts(Struct, frozen=True, kw_only=True):
    """What became of lookups, over all workers, since they started."""

    workers: int
    hits: int
    """Those that the process itself knew included."""
    process_hits: int
    stale: int
    """Found, and past their soft end."""
    misses: int
    errors: int
    left_alone: int
    writes: int
    write_errors: int
    writes_skipped: int
    process_entries: int
    """Slates that the workers themselves keep."""
    process_bytes: int

    @property
    def hit_share(self) -> float | None:
        """Of what was answered, stale ones among the hits; None: nobody asked."""
        found = self.hits + self.stale
        return found / (found + self.misses) if found + self.misses else None


class CacheView(Struct, frozen=True, kw_only=True):
    """How the cache is."""

    state: Literal["connected", "degraded"]
    problem: str | None
    epoch: int
    modes: dict[str, str]
    """Deployment to cache mode."""
    lookups: LookupCounts
    server: ServerFigures | None
    """None: it does not answer."""
    keys: KeyCount | None = None
    """Where they were asked to be counted."""


class EntryView(Struct, frozen=True, kw_only=True):
    """One entry, as the cache server holds it."""

    key: str
    is_present: bool
    size_bytes: int = 0
    expires_in_s: float | None = None
    """Until the server forgets it; None: never, or it is not there."""
    is_readable: bool | None = None
    """Whether it is what belongs under its key; None: only an item's page can be read."""
    age_s: float | None = None
    computed_ms: float | None = None
    """How long its scores took."""
    fresh_for_s: float | None = None
    """Until it counts as stale; negative: since when it does. None: not known."""
    candidates: int | None = None
    deployment: str | None = None
    """Whose page it is."""
