"""NVIDIA's server binary of PyTriton's wheel, run on a model repository as an operator would."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

STUB = "python_backend_stubs/3.11/triton_python_backend_stub"


class TritonServer:
    """What is needed to start it.

    Args:
        executables: The folder of the executables of PyTriton's environment.
        folder: For the backend, put together from the wheel's parts, and what models note down.
    """

    def __init__(self, executables: Path, folder: Path) -> None:
        self.site_packages = executables.parent / "lib" / "python3.11" / "site-packages"
        self.wheel = self.site_packages / "pytriton" / "tritonserver"
        self.backends, self.seen = folder / "backends", folder / "seen"
        shutil.copytree(self.wheel / "backends" / "python", self.backends / "python")
        shutil.copy(self.wheel / STUB, self.backends / "python")

    def command(self, repository: Path, port: int) -> list[str]:
        """Strict: what a configuration leaves out is not made up, what is wrong ends the server."""
        return [
            str(self.wheel / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={self.backends}",
            f"--cache-directory={self.wheel / 'caches'}",
            "--cache-config=local,size=1048576",
            "--http-address=127.0.0.1",
            f"--http-port={port}",
            "--allow-grpc=false",
            "--allow-metrics=false",
            "--disable-auto-complete-config",
            "--exit-on-error=true",
            "--exit-timeout-secs=5",
        ]

    @property
    def environ(self) -> dict[str, str]:
        libraries = str(self.site_packages / "nvidia_pytriton.libs")
        return os.environ | {
            "LD_LIBRARY_PATH": libraries,
            "TRITON_SITE_PACKAGES": str(self.site_packages),
            "TRITON_SEEN": str(self.seen),
        }

    def refusal(self, repository: Path, port: int) -> str:
        """What it writes of a repository that it cannot serve."""
        command = self.command(repository, port)
        done = subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode == 0:
            raise AssertionError("the server took the repository")
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def running(
        self, repository: Path, port: int, log: Path
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """The server, from its start; its end is awaited."""
        with log.open("w") as lines:
            server = subprocess.Popen(
                self.command(repository, port),
                env=self.environ,
                stdout=lines,
                stderr=lines,
                start_new_session=True,
            )
        try:
            yield server
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(40)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
