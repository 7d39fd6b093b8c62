"""Settings: precedence, and one clear line for every mistake."""

import msgspec
import msgspec.inspect
import pytest

from service.errors import StartupError
from service.settings import Settings, demo_settings_file, load_settings, otel_variables

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
        ("[engine]\nrow_buckets = [128, 64]\n", "row_buckets must rise: write [64, 128]"),
        ('[engine]\nprocess = "x"\n', "'x' in [engine.process]; it may be own, shared"),
        ('[deployments.b]\nmodel = "m"\nengines = ["gpu"]\n', "it may be onnxruntime-cpu, onnx"),
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
        ('[deployments.r]\nmodel = "m"\nengines = ["tensor-rt"]\n', "tensor-rt"),
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


@pytest.mark.parametrize(
    ("text", "kind"),
    [("inf", float), ("nan", float), ("-inf", float), ("1e300", float), (f"{10**18}", int)],
)
def test_every_number_has_a_finite_bound(settings_file, text, kind):
    """A timer or a buffer of that size would fail in the middle of a request."""
    checked = 0
    for section in msgspec.structs.fields(Settings):
        if not isinstance(msgspec.inspect.type_info(section.type), msgspec.inspect.StructType):
            continue
        for field in msgspec.structs.fields(section.type):
            if type(field.default) is not kind:
                continue
            table = f"[{section.name}]\n{field.name} = {text}\n"
            with pytest.raises(StartupError, match=f"{section.name}.{field.name}"):
                load_settings(settings_file(MINIMAL + table), environ={})
            checked += 1
    assert checked >= 8


def test_the_demonstration_settings_load():
    settings = load_settings(demo_settings_file(), environ={}).settings

    assert settings.surfaces["default"] in settings.deployments


def test_telemetry_is_given_the_otel_variables_and_no_others():
    environ = {"OTEL_SERVICE_NAME": "ranking", "HOME": "/root", "PODIUM_PORT": "1"}

    assert otel_variables(environ) == {"OTEL_SERVICE_NAME": "ranking"}


def test_more_instances_than_the_event_loop_can_run_are_refused(settings_file):
    file = settings_file(MINIMAL + '[batching]\nexecution = "inline"\ninstances = 2\n')

    with pytest.raises(StartupError, match='needs execution = "thread"'):
        load_settings(file, environ={})


@pytest.mark.parametrize(
    ("text", "environ", "flags", "said"),
    [
        ('redis = "x"\n', {"PODIUM_REDIS__URL": "redis://h"}, {}, "`redis` is a table"),
        ("server = 5\n", {}, {("server", "port"): 1}, "`server` is a table"),
    ],
)
def test_a_value_where_a_table_belongs_is_refused_however_it_is_overridden(
    settings_file, text, environ, flags, said
):
    with pytest.raises(StartupError, match=r"podium\.toml: ") as failure:
        load_settings(settings_file(text + MINIMAL), environ=environ, flags=flags)

    assert said in str(failure.value)


@pytest.mark.parametrize(
    ("environ", "flags", "said"),
    [
        ({}, {("server", "port"): 99_999}, "the flag for server.port: Expected `int` <= 65535"),
        ({"PODIUM_SERVER__PORT": "99999"}, {}, "PODIUM_SERVER__PORT: Expected `int` <= 65535"),
    ],
)
def test_a_wrong_flag_or_variable_is_named_and_the_file_is_not(settings_file, environ, flags, said):
    with pytest.raises(StartupError) as failure:
        load_settings(settings_file(MINIMAL), environ=environ, flags=flags)

    assert str(failure.value) == said


def test_what_is_wrong_together_names_the_file_and_what_goes_before_it(settings_file):
    file = settings_file(MINIMAL + '[batching]\nexecution = "inline"\n')
    environ = {"PODIUM_BATCHING__INSTANCES": "2", "PODIUM_CACHE__TTL_S": "5"}

    with pytest.raises(StartupError, match=r"toml with PODIUM_BATCHING__INSTANCES: more than one"):
        load_settings(file, environ=environ)


def test_lists_and_tables_are_json_in_the_environment(settings_file):
    keys = [{"name": "shop", "sha256": "0" * 64, "scopes": ["rank"]}]
    environ = {
        "PODIUM_AUTH__KEYS": msgspec.json.encode(keys).decode(),
        "PODIUM_EVENTS__KEYS": '{"k2": "ff"}',
        "PODIUM_SURFACES": '{"default": "ranker"}',
    }

    settings = load_settings(
        settings_file(MINIMAL + '[events]\nkeys = { k1 = "ee" }\n'), environ=environ
    ).settings

    assert settings.auth.keys[0].scopes == ("rank",)
    assert settings.events.keys == {"k2": "ff"}  # the whole table
    assert settings.surfaces == {"default": "ranker"}


@pytest.mark.parametrize(
    ("value", "said"),
    [("k1=ff", "is not JSON"), ("\udcff", "is not JSON"), ('{"k1": 3}', "Expected `str`")],
)
def test_a_table_that_is_not_json_names_its_variable_and_shows_no_secret(
    settings_file, value, said
):
    with pytest.raises(StartupError, match=f"^PODIUM_EVENTS__KEYS: {said}"):
        load_settings(settings_file(MINIMAL), environ={"PODIUM_EVENTS__KEYS": value})


def test_a_surface_from_the_environment_is_not_blamed_on_the_file_alone(settings_file):
    with pytest.raises(StartupError, match=r"toml with PODIUM_SURFACES: surface 'default' names"):
        load_settings(settings_file(MINIMAL), environ={"PODIUM_SURFACES": '{"default": "nobody"}'})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drain_timeout_s = inf", "<= 3600"),
        ("drain_timeout_s = nan", "> 0"),
        ("drain_notice_s = inf", "<= 3600"),
        ("drain_notice_s = -1", ">= 0"),
        ('trusted_proxies = ["*"]', "trusted_proxies: '*' does not appear to be"),
        ('trusted_proxies = ["10.0.0.1/8"]', "has host bits set"),
    ],
)
def test_a_drain_is_bounded_and_trust_has_an_address(settings_file, text, said):
    with pytest.raises(StartupError) as failure:
        load_settings(settings_file(f"{MINIMAL}[server]\n{text}\n"), environ={})

    assert said in str(failure.value)


def test_proxies_are_addresses_or_networks(settings_file):
    file = settings_file(MINIMAL + '[server]\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n')

    loaded = load_settings(file, environ={}).settings
    assert loaded.server.trusted_proxies == ("10.0.0.0/8", "::1")
