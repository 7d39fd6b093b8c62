"""The faults: how each is brought about and taken back, and where it must be seen."""

import random
import struct
from collections.abc import Callable
from zlib import crc32

from msgspec import Struct

from tests.chaos.site import GRANTED, USER, Options, Site, SiteKind
from tests.support.fault_proxy import Fault as Spoil
from tests.support.store_servers import expect_ok, free_port, node_id

Act = Callable[[Site], None]


def nothing(site: Site) -> None:
    """For a fault that lies in the load, or was there from the start."""


class Beside(Struct, frozen=True):
    """Further clients, whose replies are checked as well."""

    callers: int = 1
    together_s: float = 0.0
    """They ask all at once, so long after the time before; 0: each as soon as it is answered."""
    storm: int = 0
    """Those that disconnect before they are answered."""


class Fault(Struct, frozen=True, kw_only=True):
    """One way in which a cache server fails."""

    words: str
    site: SiteKind = "server"
    begin: Act = nothing
    again: Act | None = None
    """Done all the time while it lasts."""
    end: Act = nothing
    lasts_s: float = 3.0
    opens: bool | None = False
    """Whether the breaker has to open; None: it may, or not."""
    refuses: bool = False
    """Whether it has to be seen that writes are refused."""
    shows: tuple[str, ...] = ()
    """Reasons in the metrics of which one at least must be counted."""
    options: Options = Options()
    of_slates: bool = False
    """It spoils slates, which modes of segments do not keep."""
    beside: Beside | None = None
    """Who else asks while it lasts."""
    well: Options | None = None
    """How the service is set up where the same clients meet no fault; None: without a cache."""


def _spoil(words: str, fault: Spoil, *, opens: bool | None, shows: tuple[str, ...]) -> Fault:
    def begin(site: Site) -> None:
        assert site.proxy is not None
        site.proxy.spoil(fault)

    def end(site: Site) -> None:
        assert site.proxy is not None
        spoiled = site.proxy.spoil(Spoil())
        assert spoiled or fault.kind == "swallow", "the fault met no reply"

    return Fault(words=words, site="proxied", begin=begin, end=end, opens=opens, shows=shows)


def _fill(site: Site) -> None:
    site.admin().config_set("maxmemory-policy", "noeviction")
    site.admin().config_set("maxmemory", 1)


def _empty(site: Site) -> None:
    site.admin().config_set("maxmemory", 0)


def _follow_nobody(site: Site) -> None:
    expect_ok(site.valkey, "REPLICAOF", "127.0.0.1", str(free_port()))


def _lead_again(site: Site) -> None:
    expect_ok(site.valkey, "REPLICAOF", "NO", "ONE")


def _revoke(site: Site) -> None:
    """No command is allowed any more, and nobody comes in again."""
    expect_ok(site.valkey, "ACL", "SETUSER", USER, "-@all", "off")


def _grant(site: Site) -> None:
    expect_ok(site.valkey, "ACL", "SETUSER", USER, "on", *GRANTED.split())


def _jump(seconds: float) -> Act:
    def act(site: Site) -> None:
        assert site.clock is not None
        unfinished = site.clock.with_suffix(".new")
        unfinished.write_text(str(seconds))
        unfinished.replace(site.clock)

    return act


def _flush(site: Site) -> None:
    site.admin().flushall()


def _slates(site: Site) -> dict[str, bytes]:
    """Keys and values of all slates that are kept."""
    admin = site.admin()
    keys = [str(key, "ascii") for key in admin.scan_iter("podium:*:R:*", count=1000)]
    found = zip(keys, admin.mget(keys) if keys else [], strict=True)
    # Neither gone, nor a lock, nor spoiled already.
    return {
        key: value for key, value in found if isinstance(value, bytes) and value[:3] == b"PS\x01"
    }


def _put(site: Site, values: dict[str, bytes]) -> None:
    """In place of what is there, and as long; all at once, as to spoil must not be the load."""
    with site.admin().pipeline(transaction=False) as batch:
        for key, value in values.items():
            batch.set(key, value, xx=True, keepttl=True)
        batch.execute()


def _wrong_type(site: Site) -> None:
    """A list where a slate was."""
    with site.admin().pipeline(transaction=False) as batch:
        for key in _slates(site):
            batch.delete(key)
            batch.lpush(key, "x")
            batch.expire(key, 2)
        # By now the service may have written one of them again.
        batch.execute(raise_on_error=False)


def _older(value: bytes) -> bytes:
    """A value that is well-formed but for its version, with scores that nobody computed.

    If the layout of values changes, this must follow: header of 32 bytes with the version in
    the third, its checksum, float32 scores.
    """
    header = value[:2] + b"\0" + value[3:32]
    scores = struct.pack("<f", 0.123) * ((len(value) - 36) // 4)
    return header + struct.pack("<I", crc32(scores, crc32(header))) + scores


def _old_version(site: Site) -> None:
    _put(site, {key: _older(value) for key, value in _slates(site).items()})


def _strangers(site: Site) -> None:
    """Every value under the key of another one."""
    slates = _slates(site)
    values = list(slates.values())
    _put(site, dict(zip(slates, values[1:] + values[:1], strict=True)))


def _kill_master(site: Site) -> None:
    assert site.cluster is not None
    site.cluster.masters[1].kill()


def _start_master(site: Site) -> None:
    assert site.cluster is not None
    site.cluster.masters[1].start()


def _move_slots(site: Site) -> None:
    """A slot with entries goes from one master to another, key by key, as resharding does it."""
    assert site.cluster is not None
    source, target = random.sample([site.cluster.masters[0], site.cluster.masters[-1]], 2)
    found = source.command("RANDOMKEY").split(b"\r\n")
    if len(found) < 3:
        return  # nothing there at this moment
    slot = source.command("CLUSTER", "KEYSLOT", found[1].decode())[1:].strip().decode()
    expect_ok(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
    expect_ok(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
    keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, "100").split(b"\r\n")[2::2]
    for key in keys:
        source.command("MIGRATE", "127.0.0.1", str(target.port), key.decode(), "0", "1000")
    for server in (target, source):
        expect_ok(server, "CLUSTER", "SETSLOT", slot, "NODE", node_id(target))


FAULTS: dict[str, Fault] = {
    "absent": Fault(
        words="not there when the service starts",
        end=lambda site: (site.valkey.start(), None)[1],
        opens=True,
        shows=("left_alone",),
        options=Options(absent=True),
    ),
    "killed": Fault(
        words="SIGKILL, and started again",
        begin=lambda site: site.valkey.kill(),
        end=lambda site: (site.valkey.start(), None)[1],
        lasts_s=5.0,
        opens=True,
        shows=("left_alone",),
    ),
    "stopped": Fault(
        words="SIGSTOP for 10 s",
        begin=lambda site: site.valkey.freeze(),
        end=lambda site: site.valkey.thaw(),
        lasts_s=10.0,
        opens=True,
        shows=("timeouts",),
    ),
    "slow": _spoil(
        "20 % of replies 100 ms late", Spoil("delay", 0.2, 0.1), opens=None, shows=("timeouts",)
    ),
    "errors": _spoil("10 % error replies", Spoil("error", 0.1), opens=None, shows=("errors",)),
    "truncated": _spoil(
        "10 % of replies end in the middle", Spoil("truncate", 0.1), opens=None, shows=("errors",)
    ),
    "garbage": _spoil(
        "10 % of replies are no protocol", Spoil("garbage", 0.1), opens=None, shows=("errors",)
    ),
    "swapped": _spoil(
        "30 % of replies change places",
        Spoil("swap", 0.3),
        opens=None,
        shows=("unreadable", "errors"),
    ),
    "inserted": _spoil(
        "2 % of replies come after a stranger's",
        Spoil("insert", 0.02),
        opens=None,
        shows=("unreadable", "errors"),
    ),
    "half-open": _spoil(
        "nothing comes through, nothing ends", Spoil("swallow"), opens=True, shows=("timeouts",)
    ),
    "storm": Fault(words="64 clients that disconnect within 50 ms", beside=Beside(storm=64)),
    "crowd": Fault(
        words="500 requests at once on a pool of 4, every second",
        beside=Beside(callers=500, together_s=1.0),
        lasts_s=10.0,
        opens=None,
        options=Options(pool_size=4),
        well=Options(pool_size=512),
    ),
    "full": Fault(
        words="maxmemory reached, noeviction",
        begin=_fill,
        end=_empty,
        refuses=True,
        shows=("write_errors",),
    ),
    "read-only": Fault(
        words="a replica that takes no writes",
        begin=_follow_nobody,
        end=_lead_again,
        refuses=True,
        shows=("write_errors",),
    ),
    "failover": Fault(
        words="a master of a cluster killed",
        site="cluster",
        begin=_kill_master,
        end=_start_master,
        lasts_s=5.0,
        opens=None,
        shows=("errors", "write_errors"),
    ),
    "reshard": Fault(
        words="slots of a cluster move", site="cluster", again=_move_slots, opens=None
    ),
    "wrong-type": Fault(
        words="lists under the keys", again=_wrong_type, of_slates=True, shows=("unreadable",)
    ),
    "old-version": Fault(
        words="values of an older version",
        again=_old_version,
        of_slates=True,
        shows=("unreadable",),
    ),
    "strangers": Fault(
        words="values of other keys", again=_strangers, of_slates=True, shows=("unreadable",)
    ),
    "flushed": Fault(words="FLUSHALL all the time", again=_flush),
    "revoked": Fault(
        words="ACL taken away", begin=_revoke, end=_grant, opens=True, shows=("left_alone",)
    ),
    "clock": Fault(
        words="the clock jumps an hour ahead, and back",
        site="jumping",
        begin=_jump(3600.0),
        end=_jump(0.0),
    ),
    "clock-back": Fault(
        words="the clock jumps an hour back, and ahead",
        site="jumping",
        begin=_jump(-3600.0),
        end=_jump(0.0),
    ),
}
