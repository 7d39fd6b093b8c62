"""No document claims a GPU figure that nobody measured."""

import re
from pathlib import Path

import pytest

from service.doctor.proof.figures import FORMAT, decode_proof

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "gpu"
PROOFS = sorted(FOLDER.glob("*.json"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "deploy").rglob("*.md"))]

_GPU = re.compile(r"\b(GPUs?|TensorRT|CUDA|NVIDIA|T4|L4|L40S?|A10G?|A100|H100|H200|B200)\b")
_FIGURE = re.compile(
    r"\b\d[\d.,]*\s*(?:(?:ms|µs|us|x|times|percent)\b|%|(?:rows|requests|req|predictions)/s)"
)
_PRINTED = re.compile(r"<!-- begin -->.*?<!-- end -->", re.DOTALL)
"""What a command printed that says itself what is assumed; a test holds the page to it."""
_PROOF = re.compile(r"deploy/gpu/[\w.-]+\.json")


def claims(text: str) -> list[str]:
    """Paragraphs and list items with a measured figure of a GPU, and no proof that has it."""
    written_by_people = _PRINTED.sub("", text)
    items = re.split(r"\n\s*\n|\n(?=[*\-|] ?)", written_by_people)
    named = {f"deploy/gpu/{file.name}" for file in PROOFS}
    return [
        item
        for item in items
        if _GPU.search(item) and _FIGURE.search(item) and not named & set(_PROOF.findall(item))
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_gpu_figure_names_the_proof_that_it_comes_from(document):
    assert claims(document.read_text("utf-8")) == []


def test_the_readme_says_not_measured_where_there_is_no_proof():
    text = (ROOT / "README.md").read_text("utf-8")
    mentions = [item for item in re.split(r"\n\s*\n|\n(?=\* )", text) if _GPU.search(item)]

    assert PROOFS or any("not measured" in " ".join(item.split()) for item in mentions)


@pytest.mark.parametrize("file", PROOFS, ids=lambda file: file.name)
def test_a_committed_proof_holds_and_comes_from_a_real_driver(file):
    proof = decode_proof(file.read_bytes())

    assert proof.format == FORMAT
    assert proof.failures == ()
    assert proof.gpu.driver, "it was not made on a machine with an NVIDIA driver"


@pytest.mark.parametrize(
    ("text", "is_claim"),
    [
        ("TensorRT scores 1,024 rows in 0.4 ms.", True),
        ("On a T4 it is 22x faster.", True),
        ("* A GPU gives 90,000 rows/s.\n* The CPU gives less.", True),
        ("A GPU saves 40 % of it.", True),
        ("The CPU takes 3 ms.\n\nThere may be a GPU.", False),
        ("TensorRT 11.4 and CUDA 13 are supported.", False),
        ("A T4 does it in 2 ms: see deploy/gpu/nobody-made-this.json.", True),
    ],
)
def test_claims_are_told_apart(text, is_claim):
    assert bool(claims(text)) is is_claim
