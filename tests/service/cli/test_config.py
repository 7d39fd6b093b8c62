"""``podium config``: all that is wrong at once, and where everything in effect comes from."""

import json
import os
import re

import pytest

from service.cli import run

FINE = """# a comment
state_directory = "state"

[server]
port = 9000
trusted_proxies = [
    "10.0.0.0/8",
    "::1",
]

[redis]
url = "redis://user:secret@cache:6379/0"

[[auth.keys]]
name = "shop"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
scopes = ["rank"]

[[auth.keys]]
name = "ops"
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
scopes = ["admin"]

[events.keys]
k1 = "2222222222222222222222222222222222222222222222222222222222222222"

[deployments.ranker]
model = "marketplace"
"""


@pytest.fixture
def podium_toml(tmp_path, monkeypatch):
    """A settings file in the folder that the test runs in, and no variables of ours."""
    for name in [name for name in os.environ if name.startswith(("PODIUM_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def written(text=FINE):
        (tmp_path / "podium.toml").write_text(text)

    written()
    return written


def checked(capsys, *flags):
    code = run(["config", "check", "--config", "podium.toml", "--json", *flags])
    document = json.loads(capsys.readouterr().out)
    assert document["fine"] == (code == 0)
    return document["problems"]


def explained(capsys, *arguments):
    assert run(["config", "explain", "--config", "podium.toml", "--json", *arguments]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    return {setting["setting"]: setting for setting in settings}


def test_settings_that_are_fine_are_said_to_be(podium_toml, capsys):
    assert run(["config", "check", "--config", "podium.toml"]) == 0

    assert capsys.readouterr().out == (
        "podium.toml: fine, with its experiments and the environment\n"
    )


def test_everything_that_is_wrong_is_told_at_once_with_its_place(podium_toml, capsys, monkeypatch):
    podium_toml(
        FINE.replace("port = 9000", "prt = 9000")
        .replace('scopes = ["admin"]', 'scopes = ["amdin"]')
        .replace('model = "marketplace"', 'model = "marketplace"\ncache = "exakt"')
        + '[batching]\nmax_queue_delay_s = "soon"\n[cache]\nttl_s = inf\n[nonsense]\nx = 1\n'
    )
    monkeypatch.setenv("PODIUM_SERVER__WORKERS", "many")
    monkeypatch.setenv("PODIUM_REDIS__ULR", "redis://x")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")

    assert run(["config", "check", "--config", "podium.toml"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "9 problems"
    told = "\n".join(lines)
    for expected in (
        r"podium\.toml:5: server\.prt: there is no such setting; did you mean port\?",
        r"podium\.toml:22: auth\.keys\[1\]\.scopes\[0\]: .*it may be admin, events, rank, read",
        r"podium\.toml:29: deployments\.ranker\.cache: .*it may be exact, off",
        r"podium\.toml:31: batching\.max_queue_delay_s: Expected `float`, got `str`",
        r"podium\.toml:33: cache\.ttl_s: ",
        r"podium\.toml:34: nonsense: there is no such setting; there are ",
        r"PODIUM_SERVER__WORKERS: Expected `int`, got `str`",
        r"PODIUM_REDIS__ULR: there is no such setting; did you mean PODIUM_REDIS__URL\?",
        r"OTEL_EXPORTER_OTLP_ENDPOINT must be a URL",
    ):
        assert re.search(expected, told), expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deployments = 3", "deployments: Expected `object`, got `int`"),
        ("[deployments.a]\n", "deployments.a.model: is missing"),
        ("[server]\nport = 1\n", "deployments: is missing"),
        ("server = 1\n[deployments.a]\nmodel = 'm'\n", "server: is a table of settings, [server]"),
        ("[a\n", "podium.toml: not valid TOML"),
        (
            "[deployments.a]\nmodel = 'm'\n[surfaces]\ndefault = 'b'\n",
            "surface 'default' names deployment 'b'; known: a",
        ),
        (
            "[deployments.a]\nmodel = 'm'\n[batching]\ninstances = 2\nexecution = 'inline'\n",
            "batching: more than one instance needs execution",
        ),
        (
            "[deployments.a]\nmodel = 'm'\n[redis]\nurl = 'rediss://h'\ntls_ca = 'ca.pem'\n",
            "redis.tls_ca: there is no file",
        ),
        (
            "[deployments.a]\nmodel = 'm'\n[models]\ndirectory = 'bundles'\n",
            "models.directory: there is no folder",
        ),
        (
            "[deployments.a]\nmodel = 'm'\n[experiments]\nfile = 'x.toml'\n",
            "x.toml: the experiments cannot be read",
        ),
    ],
)
def test_what_cannot_be_is_a_problem(podium_toml, capsys, text, said):
    podium_toml(text)

    told = [": ".join(filter(None, problem.values())) for problem in checked(capsys)]

    assert any(said in one for one in told), told


def test_experiments_that_name_no_deployment_are_a_problem(podium_toml, capsys, tmp_path):
    podium_toml(f'{FINE}[experiments]\nfile = "experiments.toml"\n')
    (tmp_path / "experiments.toml").write_text(
        '[[experiment]]\nkey = "x"\nunit = "user"\n'
        '[[experiment.variant]]\nname = "a"\nshare_bp = 5000\ndeployment = "ranker"\n'
        '[[experiment.variant]]\nname = "b"\nshare_bp = 5000\ndeployment = "rnker"\n'
    )

    (problem,) = checked(capsys)

    assert problem["where"] == f"{tmp_path / 'experiments.toml'}:11"
    assert "there is no deployment 'rnker' in the settings" in problem["reason"]


def test_everything_wrong_with_experiments_is_told_also_beside_broken_settings(
    podium_toml, capsys, tmp_path
):
    podium_toml(
        FINE.replace("port = 9000", "port = -1") + '[experiments]\nfile = "experiments.toml"\n'
    )
    (tmp_path / "experiments.toml").write_text(
        '[[experiment]]\nkey = "x"\nunit = "usr"\nvaraint = 1\n[experiment.rollout]\n'
        'automatic = "yes"\n[[experiment.variant]]\nname = "a"\nshare_bp = 20000\n'
        '[[experiment]]\nkey = "y"\nstate = "promoted"\n'
        '[[experiment]]\nkey = "z"\n'
    )

    told = {(p["where"].rpartition("/")[2], p["setting"]): p["reason"] for p in checked(capsys)}

    for place, said in {
        ("podium.toml:5", "server.port"): "Expected `int` >= 0",
        ("experiments.toml:3", "experiment[0].unit"): "it may be session, user, user_or_session",
        ("experiments.toml:4", "experiment[0].varaint"): "did you mean variant?",
        ("experiments.toml:6", "experiment[0].rollout.automatic"): "Expected `bool`, got `str`",
        ("experiments.toml:7", "experiment[0].variant[0]"): "share_bp must be 0 to 10000",
        ("experiments.toml:10", "experiment[1]"): "a file cannot say state = 'promoted'",
        ("experiments.toml:13", "experiment[2].variant"): "is missing",
    }.items():
        assert said in told.pop(place, ""), (place, told)
    assert not told


def test_what_is_named_and_is_not_there_hides_nothing_else(podium_toml, capsys):
    podium_toml(
        FINE.replace('"redis://user:secret@', '"http://user:secret@')
        + '[models]\ndirectory = "bundles"\n'
    )

    redis, models = checked(capsys)

    assert redis["where"] == "podium.toml:12"
    assert redis["reason"].startswith("redis.url http://user:***@cache:6379/0 cannot be used")
    assert (models["where"], models["setting"]) == ("podium.toml:30", "models.directory")


def test_a_variable_that_is_wrong_is_the_place_of_its_problem(podium_toml, capsys, monkeypatch):
    monkeypatch.setenv("PODIUM_SERVER__WORKERS", "many")

    (problem,) = checked(capsys)

    assert problem["where"] == "PODIUM_SERVER__WORKERS"
    assert problem["reason"] == "Expected `int`, got `str`"


@pytest.fixture
def piped():
    """The settings as a shell's ``<(...)`` gives them: readable once."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as written:
        written.write(FINE)
    yield f"/dev/fd/{reader}"
    os.close(reader)


def test_settings_that_can_be_read_only_once_are_checked(podium_toml, capsys, piped):
    assert run(["config", "check", "--config", piped]) == 0
    assert capsys.readouterr().out.startswith(f"{piped}: fine")


def test_settings_that_can_be_read_only_once_are_explained_with_their_lines(
    podium_toml, capsys, piped
):
    assert run(["config", "explain", "server.port", "--config", piped]) == 0
    assert f"from      {piped}:5\n" in capsys.readouterr().out


def test_a_device_is_not_read_for_ever(podium_toml, capsys):
    assert run(["config", "check", "--config", "/dev/zero"]) == 1
    assert "cannot be read: longer than 16 MiB" in capsys.readouterr().out


def test_an_editors_byte_order_mark_is_no_problem(podium_toml, capsys):
    podium_toml(f"\ufeff{FINE}")

    assert checked(capsys) == []


def test_flags_of_serve_are_checked_with_the_rest(podium_toml, capsys):
    (problem,) = checked(capsys, "--redis-url", "http://cache")

    assert problem["reason"].startswith("redis.url http://cache cannot be used")


def test_every_setting_says_where_it_comes_from(podium_toml, capsys, monkeypatch):
    monkeypatch.setenv("PODIUM_SERVER__HOST", "0.0.0.0")
    monkeypatch.setenv("PODIUM_SURFACES", '{"default": "ranker"}')

    found = explained(capsys, "--workers", "3")

    assert {name: (one["value"], one["source"]) for name, one in found.items()}.items() >= {
        "server.port": (9000, "podium.toml:5"),
        "server.trusted_proxies": (["10.0.0.0/8", "::1"], "podium.toml:6"),
        "server.host": ("0.0.0.0", "PODIUM_SERVER__HOST"),
        "server.workers": (3, "--workers"),
        "surfaces.default": ("ranker", "PODIUM_SURFACES"),
        "cache.ttl_s": (300.0, "default"),
        "auth.keys[1].name": ("ops", "podium.toml:20"),
        "deployments.ranker.model": ("marketplace", "podium.toml:28"),
        "deployments.ranker.cache": ("exact", "default"),
    }.items()


def test_of_a_table_in_a_variable_only_what_it_says_comes_from_it(podium_toml, capsys, monkeypatch):
    monkeypatch.setenv("PODIUM_DEPLOYMENTS", '{"ranker": {"model": "m"}}')

    found = explained(capsys, "deployments.ranker")

    assert found["deployments.ranker.model"]["source"] == "PODIUM_DEPLOYMENTS"
    assert found["deployments.ranker.cache"]["source"] == "default"


def test_flags_go_before_the_environment(podium_toml, capsys, monkeypatch):
    monkeypatch.setenv("PODIUM_SERVER__PORT", "1234")

    assert explained(capsys, "server.port")["server.port"]["source"] == "PODIUM_SERVER__PORT"
    found = explained(capsys, "server.port", "--port", "7")["server.port"]
    assert (found["value"], found["source"]) == (7, "--port")


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_secrets_are_masked(podium_toml, capsys, as_json):
    assert run(["config", "explain", "--config", "podium.toml", *as_json]) == 0

    printed = capsys.readouterr().out
    assert "redis://user:***@cache:6379/0" in printed
    assert not any(secret in printed for secret in ("secret", "0000", "1111", "2222"))


def test_secrets_of_variables_are_masked(podium_toml, capsys, monkeypatch):
    monkeypatch.setenv("PODIUM_ENGINE__TRITON_KEY", "hush")
    monkeypatch.setenv("PODIUM_EVENTS__KEYS", json.dumps({"k2": "hush" * 16}))
    monkeypatch.setenv("PODIUM_REDIS__EVENTS_URL", "rediss+sentinel://a:hush@h:1,i:2/main")

    found = explained(capsys, "--redis-url", "redis://h:1?password=hush")

    assert "hush" not in json.dumps(found)
    assert found["engine.triton_key"]["value"] == "***"


def test_one_setting_is_shown_with_what_it_means_and_may_be(podium_toml, capsys):
    assert run(["config", "explain", "server.port", "--config", "podium.toml"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "server.port = 9000",
        "  from      podium.toml:5",
        "  default   8080",
        "  may be    whole number from 0 to 65,535",
        "  variable  PODIUM_SERVER__PORT",
        "  0 picks a free port and prints it.",
    ]


def test_a_setting_that_there_is_not_is_told_with_the_near_one(podium_toml, capsys):
    assert run(["config", "explain", "server.prt", "--config", "podium.toml"]) == 1

    assert capsys.readouterr().err == (
        "podium: there is no setting 'server.prt'; did you mean server.port?\n"
    )


def test_settings_that_cannot_be_used_are_not_explained(podium_toml, capsys):
    podium_toml("[deployments.a]\n")

    assert run(["config", "explain", "--config", "podium.toml"]) == 2
    assert capsys.readouterr().err.startswith("podium: podium.toml: ")
