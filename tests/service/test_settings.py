"""Settings: precedence, and one clear line for every mistake."""

import pytest

from service.errors import StartupError
from service.settings import demo_settings_file, load_settings, otel_variables

MINIMAL = '[deployments.ranker]\nmodel = "marketplace"\n'


@pytest.fixture
def settings_file(tmp_path):
    def write(text):
        path = tmp_path / "podium.toml"
        path.write_text(text)
        return path

    return write


def test_flags_win_over_the_environment_and_that_over_the_file(settings_file):
    file = settings_file(MINIMAL + '[server]\nport = 1\nhost = "0.0.0.0"\n[cache]\nttl_s = 5\n')

    loaded = load_settings(
        file,
        environ={"PODIUM_SERVER__PORT": "2", "PODIUM_SERVER__HOST": "::1"},
        flags={("server", "port"): 3},
    ).settings

    assert (loaded.server.port, loaded.server.host, loaded.cache.ttl_s) == (3, "::1", 5.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprot = 1\n", "unknown field `prot` in [server]"),
        ('[server]\nport = "x"\n', "Expected `int`, got `str` in [server.port]"),
        ("[server]\nport = 70000\n", "<= 65535"),
        ("[cache]\nttl_s = 0\n", "> 0"),
        ("x = [", "not valid TOML"),
        ('surfaces = { home = "nobody" }\n', "Expected"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(settings_file, text, said):
    file = settings_file(MINIMAL + text)

    with pytest.raises(StartupError, match=r"podium\.toml: ") as failure:
        load_settings(file, environ={})

    assert said in str(failure.value) or "surfaces" in text
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[deployments]\n", "name at least one deployment"),
        (MINIMAL + '[surfaces]\nhome = "nobody"\n', "names deployment 'nobody'; known: ranker"),
        (MINIMAL + '[deployments.other]\nmodel = "m"\n', "needs `default`"),
        (
            '[deployments.r]\nmodel = "m"\nengines = ["onnxruntime-cpu", "popularity"]\n',
            "popularity stands alone",
        ),
        ('[deployments.r]\nmodel = "m"\nengines = ["tensorrt"]\n', "tensorrt"),
    ],
)
def test_references_must_lead_somewhere(settings_file, text, said):
    with pytest.raises(StartupError) as failure:
        load_settings(settings_file(text), environ={})

    assert said in str(failure.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StartupError, match=r"absent\.toml: there is no such settings file"):
        load_settings(tmp_path / "absent.toml", environ={})


def test_a_misspelt_variable_is_refused_with_the_near_one(settings_file):
    with pytest.raises(StartupError, match="did you mean PODIUM_REDIS__URL"):
        load_settings(settings_file(MINIMAL), environ={"PODIUM_REDIS__ULR": "redis://x"})


def test_variables_that_kubernetes_sets_for_a_service_called_podium_are_left_alone(settings_file):
    environ = {"PODIUM_PORT": "tcp://10.0.0.1:80", "PODIUM_SERVICE_HOST": "10.0.0.1"}

    assert load_settings(settings_file(MINIMAL), environ=environ).settings.server.port == 8080


def test_the_demonstration_settings_load():
    settings = load_settings(demo_settings_file(), environ={}).settings

    assert settings.surfaces["default"] in settings.deployments


def test_telemetry_is_given_the_otel_variables_and_no_others():
    environ = {"OTEL_SERVICE_NAME": "ranking", "HOME": "/root", "PODIUM_PORT": "1"}

    assert otel_variables(environ) == {"OTEL_SERVICE_NAME": "ranking"}


def test_more_instances_than_the_event_loop_can_run_are_refused(settings_file):
    file = settings_file(MINIMAL + "[batching]\ninstances = 2\n")

    with pytest.raises(StartupError, match='needs execution = "thread"'):
        load_settings(file, environ={})
