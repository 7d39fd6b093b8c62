"""``make verify``: every operation of the API document, fuzzed against a real service.

    python -m tests.verify .venv-verify/bin/schemathesis

Starts ``podium serve`` with the demonstration's settings on a free port of
loopback and fresh state, and lets schemathesis read ``/schema/openapi.json``
from it and send what the document allows and what it does not. Takes a little
more than a minute; the exit code is 1 if anything was answered with 5xx, or otherwise than the
document says.
"""

import os
import subprocess
import sys
import tempfile

from service.loadgen.process import serving
from service.settings import demo_settings_file

START_S = 60.0
EXAMPLES = 20
"""Per operation and round of fuzzing."""
LONGEST_S = 60
"""Rounds are repeated until so much time is over."""
SEED = 1
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
"""What clients generated from the document rely on: every answer is one that it tells."""


def main(schemathesis: str) -> int:
    with tempfile.TemporaryDirectory(prefix="podium-verify-") as state:
        config = str(demo_settings_file())
        flags = ["--config", config, "--port", "0", "--state-directory", state]
        with serving(flags) as service:
            url = service.url(longest_s=START_S)
            return subprocess.run(
                [schemathesis, "run", f"{url}/schema/openapi.json", *options()],
                check=False,
                cwd=state,  # it keeps notes in its working directory
                env={**os.environ, "NO_PROXY": "127.0.0.1"},
            ).returncode


def options() -> list[str]:
    return [
        f"--checks={','.join(CHECKS)}",
        "--phases=examples,coverage,fuzzing",
        f"--max-examples={EXAMPLES}",
        f"--max-time={LONGEST_S}",
        f"--seed={SEED}",
        "--continue-on-failure",
        "--warnings=off",
    ]


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))  # noqa: PTH100 - a link into an environment
