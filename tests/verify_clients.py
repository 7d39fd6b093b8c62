"""``make verify``: the API document, generated clients, `podium-client` and the examples.

    python -m tests.verify_clients TOOLS

TOOLS is the environment of deploy/locks/clients.txt: Node.js, a validator and what builds wheels.
Needs the package registries of Python and npm. Against real services on loopback:

- the API document is valid OpenAPI 3.1, and passes Redocly's strictest rules
- a TypeScript client is generated from it, compiles under ``tsc --strict``, ranks, reads a page,
  reports events and gets a typed refusal; with the service killed it shows the input order
- wheel and sdist of `podium-client` are built; the wheel runs in a new environment that holds
  nothing of Podium, with the marketplace of deploy/clients/examples on top
- that marketplace is ordered, reports impressions and a click, hands its variant in, is one trace
  with Podium, can be switched off, and answers 200 in its own order while Podium hangs and once
  it is killed
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import httpx

from tests.support.collector import Collector
from tests.support.server import EXPERIMENTS, Server, serving

ROOT = Path(__file__).parents[1]
CLIENT = ROOT / "deploy" / "clients" / "python"
EXAMPLES = ROOT / "deploy" / "clients" / "examples"
REDOCLY = ROOT / "deploy" / "locks" / "redocly"
LONGEST_S = 300.0
"""Of any one tool; only a registry that does not answer takes so long."""
SOON_S = 30.0
DEGRADED_S = 3.0
"""Ten times the three deadlines of 100 ms that two pages wait for: the machine may be busy."""
T = TypeVar("T")


def main(tools: str) -> int:
    bin_folder = Path(tools).absolute() / "bin"
    with tempfile.TemporaryDirectory(prefix="podium-clients-") as name:
        scratch = Path(name)
        with serving(experiments=EXPERIMENTS) as server:
            document(server, bin_folder, scratch)
            typescript(server, bin_folder, scratch)
        new = installed(bin_folder, scratch)
        collector = Collector()
        try:
            marketplace(new, collector)
        finally:
            collector.close()
    return 0


def document(server: Server, bin_folder: Path, scratch: Path) -> None:
    file = scratch / "openapi.json"
    file.write_bytes(server.client.get("/schema/openapi.json").content)
    run([bin_folder / "openapi-spec-validator", file])
    say("the API document: valid OpenAPI 3.1")
    folder = copied(REDOCLY, scratch / "redocly")
    npm(bin_folder, folder)
    node(bin_folder, folder, "redocly", "lint", str(file), "--config", "redocly.yaml")
    say("the API document: Redocly's strictest rules find nothing")


def typescript(server: Server, bin_folder: Path, scratch: Path) -> None:
    folder = copied(EXAMPLES / "typescript", scratch / "typescript")
    npm(bin_folder, folder)
    here = {"PODIUM_URL": server.base_url}
    for script in ("generate", "build"):
        run([bin_folder / "npm", "run", script], cwd=folder, environ=with_node(bin_folder) | here)
    say("a TypeScript client: generated from the document, and compiles under tsc --strict")
    slate = server.rank(candidates=["i1", "i2", "i3", "i4"], user={"id": "u1"}).json()
    expected = [
        f"window: {' '.join(item['id'] for item in slate['items'])}",
        "events: " + " ".join(["accepted"] * 5),
        f"page: 3 items, {slate['experiments'][0]['variant']}",
        "refused: invalid_request at $.candidates",
    ]

    def as_expected() -> bool:
        told = run([bin_folder / "node", "out/shop.js"], cwd=folder, environ=here)
        return told.splitlines() == expected

    until(as_expected)  # on a busy machine the first may be later than its 200 ms
    say("a TypeScript client: ranks, reports, reads a page and a refusal with its place")
    server.kill()
    told = run([bin_folder / "node", "out/shop.js"], cwd=folder, environ=here)
    assert told.splitlines() == ["in input order: unreachable", "window: i1 i2 i3 i4"], told
    say("a TypeScript client: without Podium, the input order")


def installed(bin_folder: Path, scratch: Path) -> Path:
    """The folder of executables of a new environment with the built client."""
    source = copied(CLIENT, scratch / "source")
    built = scratch / "dist"
    run([bin_folder / "python", "-m", "build", "--no-isolation", "--outdir", built, source])
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    say(f"podium-client: {wheel.name} and {sdist.name}")
    run([sys.executable, "-m", "venv", scratch / "new"])
    python = scratch / "new" / "bin" / "python"
    requirements = EXAMPLES / "marketplace" / "requirements.txt"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*install, "--require-hashes", "-r", requirements])
    run([*install, "--no-deps", f"{wheel}"])
    run([python, "-m", "pip", "check"])
    where = run([python, "-I", "-c", "import podium_client; print(podium_client.__file__)"])
    assert (Path(where.strip()).parent / "py.typed").is_file()
    say("podium-client: the wheel is complete and typed in an environment of its own")
    return python.parent


def marketplace(new: Path, collector: Collector) -> None:
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with serving(experiments=EXPERIMENTS, environ=traces) as podium:
        here = {"PODIUM_URL": podium.base_url, **traces}
        with shop(new, here) as pages:
            ordered_page(pages, podium)
            events_of(pages, podium)
            variant_of(pages, podium)
            one_trace(pages, collector)
            with shop(new, here | {"SHOP_RANKINGS": "off"}) as switched_off:
                assert switched_off.get("/").headers["X-Ranked"] == "no: switched_off"
            say("the marketplace: its flag switches rankings off")
            podium.process.send_signal(signal.SIGSTOP)
            degraded(pages, "timed_out")
            podium.kill()
            degraded(pages, "unreachable")


def ordered_page(pages: httpx.Client, podium: Server) -> None:
    candidates = [f"i{number}" for number in range(1, 13)]
    expected = podium.rank(candidates=candidates, user={"id": "u1"}, k=6).json()["items"]
    until(lambda: items(ranked(lambda: pages.get("/?user=u1"))) == [i["id"] for i in expected])
    say("the marketplace: its window is in Podium's order")


def events_of(pages: httpx.Client, podium: Server) -> None:
    page = ranked(lambda: pages.get("/?user=u2"))
    first = re.search('href="(/click[^"]+)"', page.text)
    assert first is not None, page.text
    clicked = pages.get(first[1].replace("&amp;", "&"))
    assert clicked.status_code == 303, clicked
    assert pages.get("/click?slate=a&item=i1&position=first").status_code == 400
    for address in ("/?user=日本", "/"):  # by the address, then by the cookie
        assert pages.get(address).status_code == 200
    pages.cookies.clear()

    def reported() -> bool:
        report = podium.client.get("/v1/experiments/model/report").json()
        counts = [(arm["impressions"], arm["clicks"]) for arm in report["variants"]]
        return sum(n for n, _ in counts) >= 6 and sum(n for _, n in counts) == 1

    until(reported)
    say("the marketplace: impressions and a click are in the experiment's report")


def variant_of(pages: httpx.Client, podium: Server) -> None:
    flag = podium.client.post(
        "/ofrep/v1/evaluate/flags/model", json={"context": {"targetingKey": "u3"}}
    ).json()
    page = ranked(lambda: pages.get("/items/i1?user=u3"))
    assert page.headers["X-Variants"] == f"model={flag['variant']} EXTERNAL", page.headers
    say("the marketplace: an item's page has the variant that OpenFeature read over OFREP")


def one_trace(pages: httpx.Client, collector: Collector) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    parent = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    ranked(lambda: pages.get("/?user=u4", headers=parent))

    def continued() -> bool:
        spans = [span for span in collector.spans if span.trace_id.hex() == trace]
        shops = {span.span_id for span in spans if span.name == "GET /"}
        return any(s.parent_span_id in shops for s in spans if s.name == "POST /v1/rank")

    until(continued)
    say("the marketplace: Podium's spans are children of its own, in the visitor's trace")


def degraded(pages: httpx.Client, reason: str) -> None:
    started = time.monotonic()
    window, page = pages.get("/?user=u5"), pages.get("/items/i1?user=u5")
    took_s = time.monotonic() - started
    assert (window.status_code, page.status_code) == (200, 200)
    assert items(window) == [f"i{number}" for number in range(1, 7)], window.text
    assert {one.headers["X-Ranked"] for one in (window, page)} == {f"no: {reason}"}
    assert took_s < DEGRADED_S, f"two pages took {took_s:.1f} s"
    say(f"the marketplace: with Podium {reason}, 200 in its own order")


@contextlib.contextmanager
def shop(new: Path, environ: Mapping[str, str]) -> Iterator[httpx.Client]:
    """The marketplace as a process of the new environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [new / "uvicorn", "--app-dir", EXAMPLES / "marketplace", "app:app", "--port", port]
    process = subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SOON_S) as pages:
            until(lambda: is_there(pages))
            yield pages
    finally:
        process.terminate()
        process.wait(SOON_S)


def is_there(pages: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return pages.get("/health").status_code == 200
    return False


def ranked(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """A page in Podium's order: on a busy machine the first may be later than its 100 ms."""

    def page() -> httpx.Response | None:
        found = ask()
        assert found.status_code == 200, found
        return found if found.headers["X-Ranked"] == "yes" else None

    return until(page)


def items(page: httpx.Response) -> list[str]:
    return re.findall(r"<li><a[^>]*>([^<]+)</a>", page.text)


def until(found: Callable[[], T | None]) -> T:
    """What was asked for, once it is there."""
    ends_at = time.monotonic() + SOON_S
    while time.monotonic() < ends_at:
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError(f"{found.__qualname__} found nothing within {SOON_S:g} s")


def npm(bin_folder: Path, folder: Path) -> None:
    """Install what the lock file names. No package runs a script of its own."""
    command = [bin_folder / "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    run(command, cwd=folder, environ=with_node(bin_folder))


def node(bin_folder: Path, folder: Path, tool: str, *arguments: str) -> str:
    environ = {**with_node(bin_folder), "REDOCLY_TELEMETRY": "off"}
    return run([folder / "node_modules" / ".bin" / tool, *arguments], cwd=folder, environ=environ)


def with_node(bin_folder: Path) -> dict[str, str]:
    return {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}


def run(
    command: list[str | Path], *, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> str:
    """What it wrote.

    Raises:
        AssertionError: it failed, with what it wrote.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{said}"
    return done.stdout


def copied(folder: Path, to: Path) -> Path:
    leftovers = shutil.ignore_patterns("node_modules", "out", "podium", "__pycache__", "dist")
    return shutil.copytree(folder, to, ignore=leftovers)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
