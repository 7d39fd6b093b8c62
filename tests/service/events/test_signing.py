"""Where the keys come from, and which are refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from service.errors import StartupError
from service.events.signing import KEY_FILE, load_signing_keys
from service.settings import EventSettings

KEY, OTHER = "ab" * 32, "cd" * 48


def refusal(tmp_path, **settings) -> str:
    with pytest.raises(StartupError) as refused:
        load_signing_keys(EventSettings(**settings), tmp_path)
    return str(refused.value)


def test_one_configured_key_signs(tmp_path):
    keys = load_signing_keys(EventSettings(keys={"a": KEY}), tmp_path)

    assert (keys.signing, keys.signing_key) == ("a", bytes.fromhex(KEY))
    assert list(tmp_path.iterdir()) == []


def test_of_several_keys_the_named_one_signs_and_all_verify(tmp_path):
    keys = load_signing_keys(EventSettings(keys={"a": KEY, "b": OTHER}, signing_key="b"), tmp_path)

    assert keys.signing_key == bytes.fromhex(OTHER)
    assert keys.by_id == {"a": bytes.fromhex(KEY), "b": bytes.fromhex(OTHER)}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"keys": {"a": "ab" * 31}}, "events.keys.a has 31 bytes, at least 32 are needed"),
        ({"keys": {"a": "secret"}}, "events.keys.a is not hex"),
        ({"keys": {"a": "ü" * 64}}, "events.keys.a is not hex"),
        ({"keys": {"a.b": KEY}}, "'a.b' cannot be a key id"),
        ({"keys": {"": KEY}}, "'' cannot be a key id"),
        ({"keys": {"a": KEY, "b": OTHER}}, "must say which of these keys signs: a, b"),
        ({"keys": {"a": KEY}, "signing_key": "b"}, "is 'b', but events.keys has only: a"),
        ({"signing_key": "b"}, "names 'b' but events.keys is empty"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line_that_says_what_to_do(
    tmp_path, settings, says
):
    message = refusal(tmp_path, **settings)

    assert says in message
    assert "\n" not in message
    assert "secret" not in message.replace("a secret", "")


def test_without_keys_one_is_made_that_only_the_owner_may_read(tmp_path):
    state = tmp_path / "state"
    keys = load_signing_keys(EventSettings(), state)

    assert len(keys.signing_key) == 32
    assert (state / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert list(state.iterdir()) == [state / KEY_FILE]


def test_the_made_key_is_found_again(tmp_path):
    first, second = (load_signing_keys(EventSettings(), tmp_path) for _ in range(2))

    assert first.by_id == second.by_id
    assert first.signing == second.signing


def test_processes_that_start_together_agree_on_one_key(tmp_path):
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: load_signing_keys(EventSettings(), tmp_path), range(64)))

    assert len({keys.signing_key for keys in made}) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / KEY_FILE]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_read_is_refused(tmp_path, mode):
    load_signing_keys(EventSettings(), tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)

    assert f"(mode {mode:o}): run `chmod 600 " in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"zz", b"ab" * 31, b"\xff\xfe" * 32])
def test_a_damaged_key_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)

    assert f"the signing key {path} " in refusal(tmp_path)


def test_a_state_directory_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StartupError, match=r"the signing key .* cannot be used"):
        load_signing_keys(EventSettings(), tmp_path / "file")
