"""Run by every Python that starts with this folder on PYTHONPATH, as fresh workers do."""

import os
from pathlib import Path

from tests.bench.simulated_device import DEVICE_FILE, install

if DEVICE_FILE in os.environ:
    install(Path(os.environ[DEVICE_FILE]))
