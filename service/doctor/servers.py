"""A Redis or Valkey server that the settings name: how quick, how set up, and what we may do."""

import asyncio
import secrets
import statistics
from collections.abc import AsyncIterator, Sequence

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from service.clock import Clock
from service.doctor.findings import Finding, note, ok, problem
from service.stores import cache_server_problems, events_server_problems

PINGS = 21
_CLOCK_DIFFERENCE_S = 5.0
"""Replicas and the event server stamp the same events."""

Command = tuple[str | int | float, ...]


class Role(Struct, frozen=True, kw_only=True):
    """What a server is for."""

    name: str
    limit_s: float
    """Longest that a call may take before it is given up."""


async def server_findings(
    setting: str, shown: str, client: Redis, roles: Sequence[Role], clock: Clock
) -> AsyncIterator[Finding]:
    """Look at one server that answers.

    Args:
        setting: Which setting names it.
        shown: Its URL without passwords.
        client: Of it.
        roles: What is kept there: ``cache``, ``events``, or both.
        clock: Ours.
    """
    latency_s = await _latency_s(client, clock)
    yield _speed(setting, f"{shown} answers{await _version(client)}", latency_s, roles)
    names = [role.name for role in roles]
    for name in names:
        look = cache_server_problems if name == "cache" else events_server_problems
        for told in await look(client):
            found, _, advice = told.partition(": ")
            if found == "unknown":
                found, _, advice = advice.rpartition("; ")
            yield note(setting, found, advice)
    for name in names:
        yield await _rights(setting, name, client)
    difference = await _clock_difference(setting, client, clock)
    if difference is not None:
        yield difference


async def _latency_s(client: Redis, clock: Clock) -> float:
    """Median round trip, in seconds."""
    took = []
    for _ in range(PINGS):
        began = clock.now()
        await client.ping()
        took.append(clock.now() - began)
    return statistics.median(took)


async def _version(client: Redis) -> str:
    try:
        info = await client.info("server")
    except ResponseError:
        return ""
    if "valkey_version" in info:
        return f", Valkey {info['valkey_version']}"
    return f", Redis {info['redis_version']}" if "redis_version" in info else ""


def _speed(setting: str, answers: str, latency_s: float, roles: Sequence[Role]) -> Finding:
    """A call takes a round trip at least, and others are under way at the same time."""
    limit_s = min(role.limit_s for role in roles)
    found = f"{answers}, a round trip takes {latency_s * 1000:.2f} ms (median of {PINGS})"
    advice = "put it nearer to the service, or give it more of a processor"
    if latency_s >= limit_s:
        too_long = f"{found}, and calls are given up after {limit_s * 1000:g} ms"
        return problem(setting, too_long, f"{advice}; or raise that limit")
    if latency_s >= limit_s / 4:
        return note(setting, f"{found}, of {limit_s * 1000:g} ms that a call may take", advice)
    return ok(setting, found)


async def _rights(setting: str, role: str, client: Redis) -> Finding:
    """Try every command that the service sends, on keys of its own that live for seconds."""
    refused: dict[str, None] = {}
    key = f"podium:doctor:{secrets.token_hex(8)}"
    for command in _commands(role, key):
        try:
            await client.execute_command(*command)  # type: ignore[no-untyped-call]
        except NoPermissionError:
            refused[str(command[0]).lower()] = None
        except ResponseError as error:
            if str(error).startswith(("READONLY", "OOM", "MISCONF", "DENIED")):
                advice = "name the primary server, and see what it logs"
                return problem(setting, f"it refuses to be written to: {error}", advice)
    if not refused:
        return ok(setting, f"all commands for {role} are allowed")
    rights = " ".join(f"+{name}" for name in refused)
    found = f"its user may not use {', '.join(refused)} on keys that begin with podium:"
    return problem(setting, found, f"ACL SETUSER <user> ~podium:* {rights}")


def _commands(role: str, key: str) -> tuple[Command, ...]:
    """What is sent to such a server, with what removes it again at the end."""
    scalar: tuple[Command, ...] = (
        ("SET", key, "1", "PX", 10_000),
        ("GET", key),
        ("MGET", key),
    )
    if role == "cache":
        return (*scalar, ("DEL", key))
    table, group, stream = f"{key}:table", "doctor", f"{key}:stream"
    return (
        *scalar,
        ("GETEX", key, "PX", 10_000),
        ("INCR", key),
        ("EXPIRE", key, 10),
        ("HSET", table, "field", "1"),
        ("EXPIRE", table, 10),
        ("HINCRBY", table, "field", 1),
        ("HGET", table, "field"),
        ("HMGET", table, "field"),
        ("HGETALL", table),
        ("HDEL", table, "field"),
        ("SADD", f"{key}:set", "1"),
        ("EXPIRE", f"{key}:set", 10),
        ("SCARD", f"{key}:set"),
        ("XADD", stream, "*", "field", "1"),
        ("EXPIRE", stream, 10),
        ("XLEN", stream),
        ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ("XGROUP", "CREATE", stream, group, "0"),
        ("XINFO", "GROUPS", stream),
        ("XREADGROUP", "GROUP", group, group, "COUNT", 1, "STREAMS", stream, ">"),
        ("XPENDING", stream, group),
        ("XAUTOCLAIM", stream, group, group, 0, "0"),
        ("XACK", stream, group, "0-1"),
        ("XTRIM", stream, "MAXLEN", 0),
        ("EVAL", "return 1", 1, key),
        ("DEL", key, table, f"{key}:set", stream),
    )


async def _clock_difference(setting: str, client: Redis, clock: Clock) -> Finding | None:
    """How far its clock is from ours; None where its user may not ask, or it is near."""
    try:
        seconds, micros = await client.time()
    except ResponseError:
        return None
    away_s = seconds + micros / 1e6 - clock.wall()
    if abs(away_s) < _CLOCK_DIFFERENCE_S:
        return None
    found = f"its clock is {abs(away_s):.1f} s {'ahead of' if away_s > 0 else 'behind'} ours"
    return note(setting, found, "keep both in step by NTP: tokens and attribution go by them")


async def bounded(findings: AsyncIterator[Finding], limit_s: float) -> list[Finding]:
    """All of them.

    Raises:
        TimeoutError: the server stopped answering.
    """
    async with asyncio.timeout(limit_s):
        return [finding async for finding in findings]
