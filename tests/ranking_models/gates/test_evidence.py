"""What a gate measures on, and what it refuses to measure on."""

import subprocess
import sys

import numpy as np
import pytest

from ranking_models.errors import InputError
from ranking_models.gates import evidence_of, evidence_of_run
from tests.support.gated import SCHEMA, catalogue, random_rows
from tests.support.runs import tiny_run

HELD_OUT = random_rows(100, 1)
USERS = HELD_OUT.ids[:, 0]
LABELS = (np.arange(100) % 4 == 0).astype(np.float32)


def test_the_words_say_how_much_was_compared():
    evidence = evidence_of(SCHEMA, catalogue(), HELD_OUT, LABELS, USERS, source="last tenth")

    users = len(set(USERS))
    assert evidence.words == (
        f"100 held-out rows of {users} users (last tenth); all 400 items ordered for {users} users"
    )


def test_a_run_brings_its_own_evidence(tmp_path):
    run = tiny_run(tmp_path / "toys")

    evidence = evidence_of_run(run)

    assert evidence.held_out is run.held_out
    assert evidence.lists.list_items == len(run.items.ids)
    assert run.quality.split in evidence.words


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_rows_of_one_class_are_no_evidence(label):
    labels = np.full(100, label, np.float32)

    with pytest.raises(InputError, match=f"{100 * label:.0f} of 100 are clicks"):
        evidence_of(SCHEMA, catalogue(), HELD_OUT, labels, USERS, source="")


def test_no_rows_are_no_evidence():
    with pytest.raises(InputError, match="0 of 0 are clicks"):
        evidence_of(SCHEMA, catalogue(), random_rows(0, 1), LABELS[:0], USERS[:0], source="")


def test_a_missing_label_is_told():
    with pytest.raises(InputError, match="100 rows, 99 labels, 100 users"):
        evidence_of(SCHEMA, catalogue(), HELD_OUT, LABELS[1:], USERS, source="")


def test_an_empty_catalogue_is_told():
    with pytest.raises(InputError, match="holds no items"):
        evidence_of(SCHEMA, catalogue(0), HELD_OUT, LABELS, USERS, source="")


def test_gates_need_neither_torch_nor_onnx():
    code = (
        "import sys, ranking_models.gates; "
        "print(*({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.split() == []
