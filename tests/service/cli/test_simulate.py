"""``podium simulate``: files that training reads, shoppers that a service serves."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pyarrow import parquet

from ranking_models.logs import log_files_in, read_logs
from service.cli import run

SMALL = ["--items", "200", "--users", "50", "--sessions", "300"]


def files(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_training_reads_what_is_written(tmp_path, capsys):
    assert run(["simulate", "--out", str(tmp_path / "log"), *SMALL]) == 0

    printed = capsys.readouterr().out
    logs = read_logs(log_files_in(tmp_path / "log"))
    assert len(logs.label) == 3000
    assert f"3,000 impressions, {int(logs.label.sum()):,} clicks" in printed
    assert str(tmp_path / "log" / "schema.toml") in printed
    assert len(logs.items.ids) == 200
    assert len(logs.users.ids) == 50
    assert {feature.name for feature in logs.declared.features} >= {"position", "user_id", "tags"}
    anonymous = logs.user == len(logs.users.ids)
    assert 0.05 < anonymous.mean() < 0.3
    assert len(set(logs.unit[anonymous].tolist())) == anonymous.sum() / 10  # one per session


def test_the_same_seeds_write_the_same_files(tmp_path):
    for name in ("one", "other"):
        run(["simulate", "--out", str(tmp_path / name), *SMALL])
    run(["simulate", "--out", str(tmp_path / "later"), *SMALL, "--demand-seed", "5"])
    run(["simulate", "--out", str(tmp_path / "elsewhere"), *SMALL, "--seed", "5"])

    one = files(tmp_path / "one")
    assert files(tmp_path / "other") == one
    later = files(tmp_path / "later")
    assert later["items.parquet"] == one["items.parquet"]  # other sessions, same marketplace
    assert later["interactions.parquet"] != one["interactions.parquet"]
    assert files(tmp_path / "elsewhere")["items.parquet"] != one["items.parquet"]


def test_the_truth_is_there_on_request(tmp_path):
    run(["simulate", "--out", str(tmp_path), *SMALL, "--with-truth"])

    truth = parquet.read_table(tmp_path / "interactions.parquet").column("true_click_probability")
    assert all(0 < probability < 1 for probability in truth.to_pylist())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give either --out DIR or --url URL"),
        (["--out", "x", "--url", "http://h:1"], "give either --out DIR or --url URL"),
        (["--url", "http://h:1", "--with-truth"], "--with-truth goes with --out"),
        (["--out", "x", "--concurrency", "3"], "--concurrency goes with --url"),
        (["--out", "x", "--items", "5"], "--items: Expected `int` >= 100"),
        (["--out", "x", "--seed", "-1"], "--seed: Expected `int` >= 0"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, complaint, capsys):
    assert run(["simulate", *arguments]) == 2

    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_shoppers_show_the_key_and_of_nothing_shown_there_is_no_ctr(capsys):
    shown = []

    class Closed(BaseHTTPRequestHandler):
        def do_GET(self):
            shown.append(self.headers["Authorization"])
            self.send_response(401)
            self.end_headers()

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert (
            run(["simulate", "--url", url, "--api-key", "secret", *SMALL, "--sessions", "2"]) == 1
        )
        server.shutdown()

    assert set(shown) == {"Bearer secret"}
    assert "0 clicks on 0 impressions\nFAILED: " in capsys.readouterr().out


def test_nobody_at_the_address_is_one_line_and_exit_code_1(capsys):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

        assert run(["simulate", "--url", url, *SMALL]) == 1

    error = capsys.readouterr().err
    assert error.startswith(f"podium: {url}: no service answers")
    assert error.count("\n") == 1
