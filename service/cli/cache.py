"""``podium cache``: fill, look into and purge the score cache of a running service."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.cache_evaluate import evaluate
from service.cli.cache_warm import warm
from service.cli.calls import call
from service.cli.given_context import Context, Surface, Variant, forced_by, query_of
from service.cli.running_service import Admin, AsJson, Config, Url, address

if TYPE_CHECKING:
    from service.warming.values import CacheView, EntryView

app = typer.Typer(help="Fill, look into, purge and judge the score cache.", no_args_is_help=True)
app.command("warm")(warm)
app.command("evaluate")(evaluate)


@app.command("inspect")
def inspect(
    item: Annotated[
        str | None, typer.Option(help="The item whose page is looked for.", metavar="ID")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="A key of the cache server, instead of an item.")
    ] = None,
    count: Annotated[
        bool,
        typer.Option(
            "--count",
            help="Count the keys by kind: walks through them all, up to a million, up to 5 s.",
        ),
    ] = False,
    surface: Surface = None,
    context: Context = None,
    user_id: Annotated[
        str | None, typer.Option(help="Whose page; nobody known without it.")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option(help="What serves the page; the surface's own without it.")
    ] = None,
    variant: Variant = None,
    url: Url = None,
    config: Config = None,
    api_key: Admin = None,
    as_json: AsJson = False,
) -> None:
    """Show how the cache is; with --item, whether and for how long it holds an item's page.

    Example: podium cache inspect --item 1196
    """
    from service.warming.values import CacheView, EntryView

    if item and key:
        raise typer.BadParameter("--item and --key exclude each other")
    if count and (item or key):
        raise typer.BadParameter("--count is for the whole cache, not for one entry")
    about_page = (surface, context, user_id, deployment, variant)
    if not item and any(about_page):
        raise typer.BadParameter(
            "surface, context, user, deployment and variant are those of an --item"
        )
    forced = ",".join(f"{key}={name}" for key, name in forced_by(variant).items())
    at = address(url, config)
    if item or key:
        asked = {"key": key} if key else {"item": item, "user_id": user_id}
        asked |= {} if key else {"deployment": deployment, "force": forced or None}
        asked |= query_of(surface, context)
        body, entry = call(at, "/v1/cache/entry" + _query(asked), api_key, EntryView)
        return print(body if as_json else entry_words(entry))
    body, view = call(
        at, "/v1/cache" + _query({"count": "true" if count else None}), api_key, CacheView
    )
    return print(body if as_json else view_words(view))


@app.command("flush")
def flush(
    url: Url = None, config: Config = None, api_key: Admin = None, as_json: AsJson = False
) -> None:
    """Purge every entry of every model, on all replicas within a second.

    A new model version needs none: it reads no entry of the one before.

    Example: podium cache flush
    """
    from service.warming.values import CacheFlushed, NoBody

    body, flushed = call(
        address(url, config), "/v1/cache/flush", api_key, CacheFlushed, body=NoBody()
    )
    print(body if as_json else f"purged: epoch {flushed.epoch}, in force everywhere within 1 s")


def view_words(view: "CacheView") -> str:
    """The cache as a person reads it."""
    lookups, share = view.lookups, view.lookups.hit_share
    lines = [
        f"state     {view.state}" + (f": {view.problem}" if view.problem else ""),
        f"epoch     {view.epoch}",
        "modes     " + ", ".join(f"{name} {mode}" for name, mode in sorted(view.modes.items())),
        f"lookups   {lookups.hits:,} hits ({lookups.process_hits:,} in process), "
        f"{lookups.stale:,} stale, {lookups.misses:,} misses"
        + ("" if share is None else f" ({100 * share:.1f} % found)")
        + f", {lookups.errors:,} errors, {lookups.left_alone:,} left alone",
        f"writes    {lookups.writes:,}, {lookups.write_errors:,} failed, "
        f"{lookups.writes_skipped:,} skipped",
        f"process   {lookups.process_entries:,} slates, {_mb(lookups.process_bytes)}, "
        f"in {_count(lookups.workers, 'worker')}",
    ]
    if view.server is not None:
        server = view.server
        limit = _mb(server.max_memory_bytes) if server.max_memory_bytes else "no limit"
        lines += [
            f"server    {server.keys:,} keys on {_count(server.nodes, 'node')}, "
            f"{_mb(server.used_memory_bytes)} of {limit}, {server.policy}",
            f"gone      {server.evicted:,} evicted, {server.expired:,} expired",
        ]
    if view.keys is not None:
        keys = view.keys
        lines.append(
            f"keys      {keys.slates:,} slates, {keys.rows:,} rows, {keys.older:,} of earlier "
            f"epochs, {keys.other:,} locks and others without scores"
            + ("" if keys.is_complete else "; and more, not counted")
        )
    return "\n".join(lines)


def entry_words(entry: "EntryView") -> str:
    """An entry as a person reads it."""
    lines = [f"key       {entry.key}"]
    if entry.deployment is not None:
        lines.append(f"of        {entry.deployment}")
    if not entry.is_present:
        return "\n".join([*lines, "state     not there"])
    if entry.is_readable is False:
        lines.append("state     unreadable: counts as a miss")
    elif entry.fresh_for_s is not None:
        is_fresh = entry.fresh_for_s > 0
        lines.append("state     fresh" if is_fresh else "state     stale")
        left = f"fresh for {entry.fresh_for_s:.0f} s" if is_fresh else "is being computed anew"
        lines.append(f"age       {entry.age_s or 0:.0f} s, {left}")
        lines.append(f"scores    {entry.candidates}, computed in {entry.computed_ms:.2f} ms")
    else:
        lines.append("state     there")
    lines.append(f"size      {entry.size_bytes} B")
    if entry.expires_in_s is not None:
        lines.append(f"expires   in {entry.expires_in_s:.0f} s")
    return "\n".join(lines)


def _query(asked: dict[str, str | None]) -> str:
    from urllib.parse import urlencode

    given = {name: value for name, value in asked.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
