"""What Linux says of a machine, as files, and what that means for serving."""

import resource

import pytest

from service.doctor.machine import machine_findings, open_files

CPU = "processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_int8\n"


@pytest.fixture
def root(tmp_path):
    for file, text in {
        "proc/cpuinfo": CPU,
        "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4194304 kB\n",
        "sys/fs/cgroup/memory.max": "max",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


def finding(root, subject):
    return next(one for one in machine_findings(root) if one.subject == subject)


def test_the_processor_is_named_with_what_speeds_up_scoring(root):
    found = finding(root, "processor")

    assert (found.state, found.found) == ("ok", "Fast CPU: AVX2, AVX-512, VNNI, AMX int8")


def test_a_processor_without_any_of_it_is_a_note(root):
    (root / "proc/cpuinfo").write_text("model name : Old CPU\nflags : fpu sse2\n")

    found = finding(root, "processor")

    assert found.state == "note"
    assert found.found.startswith("Old CPU: none")


def test_a_system_that_says_nothing_is_no_problem(tmp_path):
    states = {one.subject: one.state for one in machine_findings(tmp_path)}

    assert states["processor"] == states["memory"] == "note"


def test_memory_is_what_is_available(root):
    assert finding(root, "memory").found == "4.0 GiB free"


def test_the_limit_of_a_container_counts(root):
    (root / "sys/fs/cgroup/memory.max").write_text(f"{600 << 20}\n")
    (root / "sys/fs/cgroup/memory.current").write_text(f"{200 << 20}\n")

    found = finding(root, "memory")

    assert (found.state, found.found) == ("problem", "400.0 MiB free in this control group")
    assert "for each worker" in found.advice


def test_cores_that_the_control_group_withholds_are_told(root, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    (root / "sys/fs/cgroup/cpu.max").write_text("100000 100000\n")

    assert finding(root, "cores").found == "1 of 64 may be used (affinity or control group)"


@pytest.mark.parametrize(
    ("limit", "state"),
    [(100, "problem"), (1024, "note"), (4096, "ok"), (resource.RLIM_INFINITY, "ok")],
)
def test_few_open_files_are_few_connections(limit, state):
    found = open_files(limit)

    assert found.state == state
    assert bool(found.advice) == (state != "ok")


def test_this_python_is_new_enough(root):
    assert finding(root, "Python").state == "ok"
