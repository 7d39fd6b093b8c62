"""Which model the story is told of when none is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from ranking_models import recipes
from ranking_models.architectures import DCNv2
from ranking_models.fit_options import FitOptions
from ranking_models.marketplace import MarketplaceSpec
from ranking_models.recipes import Recipe
from service.cli.story_bundle import NEEDED, Told, storys_bundle

DEMONSTRATION = Path("demonstration")
LITTLE = Recipe(
    name="little",
    spec=MarketplaceSpec(seed=7, items=100, users=40, sellers=10, categories=4, segments=2),
    sessions=600,
    architecture=DCNv2(embedding_dim=2, cross_layers=1, hidden=(4,)),
    options=FitOptions(epochs=1, batch_size=512),
    precisions=("fp32",),
)


@pytest.mark.slow
def test_it_is_made_once_and_then_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipes, "STORY", LITTLE)

    made = storys_bundle(DEMONSTRATION, tmp_path / "story")

    assert made.note == ""
    assert made.path.parent == tmp_path / "story" / LITTLE.digest / "little"
    assert capsys.readouterr().err == (
        "making the story's ranker, once: about a minute on two cores; kept in "
        f"{tmp_path / 'story'}\n"
    )
    for name in NEEDED:  # what is kept needs none of them
        monkeypatch.setitem(sys.modules, name, None)
    assert storys_bundle(DEMONSTRATION, tmp_path / "story") == made
    assert capsys.readouterr().err == ""


def test_without_the_training_stack_it_is_the_demonstration_and_says_so(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torch", None)

    told = storys_bundle(DEMONSTRATION, tmp_path / "story")

    assert told == Told(DEMONSTRATION, told.note)
    assert "torch cannot be imported here" in told.note
    assert "pip install 'podium[train,cpu]'" in told.note
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "story").exists()


def test_to_ask_for_it_loads_no_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from service.cli.story_bundle import storys_bundle;"
        "sys.modules['onnx'] = None; storys_bundle(Path('x'), Path(sys.argv[1]));"
        "sys.exit('torch' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
