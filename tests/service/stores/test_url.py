"""URLs of one server, of sentinels and of clusters, taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import StartupError
from service.stores import store_url
from service.stores.url import StoreUrl


def parsed(url: str, *, cluster: bool = False) -> StoreUrl:
    return store_url(url, setting="redis.url", cluster=cluster)


@pytest.mark.parametrize("url", ["redis://u:p@h:1/2", "rediss://h", "unix:///run/v.sock?db=1"])
def test_the_url_of_one_server_stays_as_it_is(url):
    assert parsed(url) == StoreUrl(kind="server", template=url)


def test_a_cluster_names_some_nodes_and_keeps_user_and_options_for_all():
    url = parsed("rediss+cluster://u:p%40@one:7001,two,[::1]:7003?ssl_min_version=3")

    assert (url.kind, url.is_tls) == ("cluster", True)
    assert url.hosts == (("one", 7001), ("two", 6379), ("::1", 7003))
    assert url.at("three", 7004) == "rediss://u:p%40@three:7004/?ssl_min_version=3"
    assert url.at("::1", 7003) == "rediss://u:p%40@[::1]:7003/?ssl_min_version=3"


def test_a_plain_url_is_a_node_of_a_cluster_where_the_settings_say_so():
    assert parsed("redis://u:p@one:7001/0", cluster=True) == parsed("redis+cluster://u:p@one:7001")


def test_sentinels_name_a_service_a_database_and_users_of_their_own():
    url = parsed("redis+sentinel://u:p@one,two:5/shop/3?sentinel_username=s&sentinel_password=q%26")

    assert (url.kind, url.service, url.hosts) == (
        "sentinel",
        "shop",
        (("one", 26_379), ("two", 5)),
    )
    assert (url.sentinel_username, url.sentinel_password) == ("s", "q&")
    assert url.at("master", 6379) == "redis://u:p@master:6379/3"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one",
        "redis+sentinel://one/",
        "redis+sentinel:///shop",
        "redis+cluster://one,,two",
        "redis+cluster://one/1",
        "unix+cluster:///run/v.sock",
        "redis+cluster:one",
    ],
)
def test_what_cannot_be_one_is_refused_with_what_it_looks_like(url):
    with pytest.raises(StartupError, match=r"^redis\.url .*a URL looks like "):
        parsed(url)


@given(st.text(min_size=1))
def test_no_password_is_shown_by_a_url_or_its_refusal(password):
    marked = f"<{password}>"
    try:
        shown = repr(parsed(f"redis+cluster://podium:{marked}@host"))
    except StartupError as refused:
        shown = str(refused)

    assert marked not in shown
