"""How many workers a machine gets, and that the welcome can say why."""

import msgspec
import pytest

from service.processes.plan import MOST_WORKERS, plan_workers, usable_cores
from service.settings import Settings


def settings(**server: object) -> Settings:
    return msgspec.convert(
        {"deployments": {"d": {"model": "m"}}, "server": server}, Settings, strict=False
    )


def of_engines(*names: str, process: str = "own", threads: int = 1, workers: int = 0) -> Settings:
    return msgspec.convert(
        {
            "server": {"workers": workers},
            "deployments": {"d": {"model": "m", "engines": list(names)}},
            "engine": {"process": process, "threads": threads},
        },
        Settings,
    )


def test_a_number_in_the_settings_is_taken_as_it_is():
    plan = plan_workers(settings(workers=11), 2, has_device=False)

    assert plan.workers == 11
    assert "server.workers" in plan.why


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (7, 7), (64, MOST_WORKERS)])
def test_a_cpu_machine_gets_a_worker_per_core_up_to_a_limit(cores, workers):
    plan = plan_workers(settings(workers=0), cores, has_device=False)

    assert plan.workers == workers
    assert f"{cores} usable" in plan.why


def test_engines_with_several_threads_share_the_cores():
    assert plan_workers(of_engines("onnxruntime-cpu", threads=4), 8, has_device=False).workers == 2
    assert plan_workers(of_engines("onnxruntime-cpu", threads=4), 2, has_device=False).workers == 1


@pytest.mark.parametrize("engine", ["tensorrt", "onnxruntime-cuda"])
def test_engines_that_own_a_gpu_are_loaded_once(engine):
    chain = (engine, "onnxruntime-cpu")

    assert plan_workers(of_engines(*chain), 8, has_device=True).workers == 1
    assert plan_workers(of_engines(*chain, process="shared"), 8, has_device=True).workers == 8
    assert plan_workers(of_engines(*chain), 8, has_device=False).workers == 8
    assert plan_workers(of_engines("onnxruntime-cpu"), 8, has_device=True).workers == 8


@pytest.mark.parametrize(
    ("process", "workers", "has_device", "told"),
    [
        ("own", 2, True, True),
        ("own", 1, True, False),
        ("own", 2, False, False),
        ("shared", 2, True, False),
    ],
)
def test_workers_that_each_own_a_gpu_are_told_of_the_other_way(process, workers, has_device, told):
    chain = of_engines("tensorrt", "onnxruntime-cpu", process=process, workers=workers)

    plan = plan_workers(chain, 8, has_device=has_device)

    assert plan.workers == workers
    assert ("counts the GPU's memory once" in plan.why) == told


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 16 cores and files of control groups as told."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))

    def write(files):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 16),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 16),
        ({"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "0::/pod/podium\n",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/pod/podium/cpu.max": "max 100000\n",
            },
            3,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            16,
        ),
    ],
)
def test_the_limit_of_a_control_group_counts(machine, files, cores):
    assert usable_cores(machine(files)) == cores
