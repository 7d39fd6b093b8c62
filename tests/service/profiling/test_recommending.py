"""From figures to settings: what is worth its price, and what may not serve however fast."""

from pathlib import Path

import msgspec
import pytest

from ranking_models.bundle import Bundle
from service.profiling.recommending import Target, recommend
from service.profiling.values import ContenderFigures, Recommendation
from service.settings import EngineSettings, Settings, load_settings
from tests.support.bundles import tiny_contents, write_bundle
from tests.support.profiles import contender, figures
from tests.support.split_graphs import with_split

PLAIN = figures(contender(), {100: 80e3, 400: 100e3, 1600: 90e3})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Of a bundle with a split."""
    root = tmp_path_factory.mktemp("split")
    return Bundle.open(write_bundle(root, with_split(tiny_contents()))).manifest


@pytest.fixture
def target(manifest) -> Target:
    return Target(manifest=manifest, model="tiny", directory=None, engine=EngineSettings())


def advised(target: Target, *measured: ContenderFigures, cores: int = 2) -> Recommendation:
    found = recommend(measured, target, cores=cores)
    assert found is not None
    return found


def served(found: Recommendation, tmp_path: Path) -> Settings:
    """The settings as ``podium serve --config`` reads them."""
    file = tmp_path / "podium.toml"
    file.write_text(found.toml, "utf-8")
    return load_settings(file, environ={}).settings


def said(found: Recommendation, about: str) -> str:
    (sentence,) = [reason for reason in found.reasons if reason.startswith(about)]
    return sentence


def faster(times: float, *who: object, standing="passed", **more) -> ContenderFigures:
    rates = {size.rows: size.rows_per_s * times for size in PLAIN.sizes}
    return figures(contender(*who, **more), rates, standing=standing)


def test_the_fastest_on_the_whole_machine_wins(target):
    """Two threads do 1.5 times the rows of one, but two engines of one thread twice."""
    found = advised(target, PLAIN, faster(1.5, "onnxruntime-cpu", "fp32", 2, standing="reference"))

    assert found.contender == PLAIN.contender
    assert found.workers == 2
    assert (
        said(found, "threads = 1")
        == "threads = 1: 1 engine with 2 would score 0.75 times the rows."
    )


def test_more_threads_win_where_they_bring_more_than_as_many_engines(target):
    two = faster(2.5, "onnxruntime-cpu", "fp32", 2, standing="reference")

    found = advised(target, PLAIN, two)

    assert (found.contender.threads, found.workers) == (2, 1)


@pytest.mark.parametrize(("times", "worth"), [(1.09, False), (1.2, True)])
@pytest.mark.parametrize(
    "who",
    [
        contender("onnxruntime-cpu", "int8-cpu"),
        contender("openvino"),
        contender(split=True),
    ],
    ids=lambda who: who.name,
)
def test_what_is_less_plain_has_to_bring_a_tenth_more(target, who, times, worth):
    standing = "reference" if who.precision == "fp32" else "passed"
    rates = {size.rows: size.rows_per_s * times for size in PLAIN.sizes}

    found = advised(target, PLAIN, figures(who, rates, standing=standing))

    assert found.contender == (who if worth else PLAIN.contender)
    against = f"{1 / times:.2f} times" if who.engine == "openvino" else f"{times:.2f} times"
    assert (against if worth else "only 9% more") in " ".join(found.reasons)


@pytest.mark.parametrize("standing", ["failed", "ungated"])
def test_a_precision_without_a_passed_gate_is_never_recommended(target, standing):
    tempting = faster(9.0, "openvino", "bf16", standing=standing)

    found = advised(target, PLAIN, tempting)

    assert found.contender == PLAIN.contender
    why = {"failed": "it failed its gate", "ungated": "no gate has compared it with fp32"}
    assert said(found, "Not openvino bf16") == (
        f"Not openvino bf16, 1 thread, at 9.00 times the rows: {why[standing]}."
    )
    assert recommend([tempting], target, cores=2) is None


def test_the_smallest_batch_that_is_nearly_as_good_is_enough(target):
    nearly = figures(contender(), {100: 90e3, 200: 97.5e3, 400: 99e3, 800: 100e3})

    found = advised(target, nearly)

    assert found.max_batch_rows == 200
    assert "a call takes 2.05 ms, its p95 is 3.08" in said(found, "max_batch_rows = 200")


def test_the_settings_are_those_that_serve_reads(target, tmp_path):
    found = advised(target, PLAIN, faster(1.5, split=True, standing="reference"))

    settings = served(found, tmp_path)

    ranker = settings.deployments["ranker"]
    assert (ranker.model, ranker.precision, ranker.engines) == (
        "tiny",
        "fp32",
        ("onnxruntime-cpu",),
    )
    assert settings.batching.max_batch_rows == 400
    assert settings.server.workers == 2
    assert (settings.engine.threads, settings.engine.split) == (1, "auto")
    assert settings.models.directory is None


def test_a_split_that_is_not_worth_its_table_is_turned_off(target, tmp_path):
    found = advised(target, PLAIN, faster(1.05, split=True, standing="reference"))

    assert served(found, tmp_path).engine.split == "off"
    assert said(found, "split = off") == (
        "split = off: the exact split's table would bring 1.05 times the rows."
    )


@pytest.mark.parametrize("directory", ["/srv/the bundles", '/srv/"quoted"\\back', "/srv/é\x7f\t"])
def test_any_folder_of_bundles_can_be_written_down(target, tmp_path, directory):
    there = msgspec.structs.replace(target, directory=Path(directory))

    assert served(advised(there, PLAIN), tmp_path).models.directory == directory


@pytest.mark.parametrize("engine", ["tensorrt", "onnxruntime-cuda"])
def test_on_a_gpu_one_process_owns_it_and_the_cpu_stands_behind(target, tmp_path, engine):
    gpu = figures(contender(engine, "fp16", None), {1024: 5e6}, standing="passed")
    on_second = msgspec.structs.replace(target, engine=EngineSettings(device=1))

    found = advised(on_second, PLAIN, gpu, cores=8)
    settings = served(found, tmp_path)

    assert settings.deployments["ranker"].engines == (engine, "onnxruntime-cpu")
    assert settings.deployments["ranker"].precision == "fp16"
    assert (settings.server.workers, settings.engine.device) == (1, 1)
    assert said(found, "onnxruntime-cpu stands behind it")
    assert settings.engine.split == "auto"  # of the engine behind


def test_a_triton_server_is_named_in_the_settings(target, tmp_path):
    remote = figures(contender("triton", threads=None), {1024: 5e6})
    there = msgspec.structs.replace(target, engine=EngineSettings(triton_url="10.0.0.7:8000"))

    settings = served(advised(there, PLAIN, remote), tmp_path)

    assert settings.engine.triton_url == "10.0.0.7:8000"
    assert settings.server.workers == 2


def test_there_is_one_sentence_for_each_setting(target):
    alone = advised(target, PLAIN)
    among_others = advised(
        target,
        PLAIN,
        faster(1.3, split=True, standing="reference"),
        faster(1.2, "openvino", "bf16"),
    )

    for found in (alone, among_others):
        assert all(reason.endswith(".") and "\n" not in reason for reason in found.reasons)
        for setting in ("precision", "threads", "max_batch_rows", "workers"):
            assert said(found, setting)
