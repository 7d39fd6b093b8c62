"""The live page and the API's page as files: what may run in them, and how long they are kept."""

import re

import pytest

PAGES = ("/dashboard", "/schema")
HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def own_files(html):
    return re.findall(r'(?:src|href)="(/(?:dashboard|schema/page)/[^"]+)"', html)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_nothing_but_our_own_files(server, path):
    page = server.client.get(path, headers=HTML)

    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page.text)
    assert not re.findall(r'(?:src|href)="(?:\w+:)?//', page.text)
    for file in own_files(page.text):
        assert server.client.get(file).status_code == 200, file


@pytest.mark.parametrize("path", PAGES)
def test_what_has_a_version_in_its_name_is_kept_and_the_rest_asked_for_again(server, path):
    files = own_files(server.client.get(path, headers=HTML).text)
    kept = {file: server.client.get(file).headers["cache-control"] for file in files}

    for file, told in kept.items():
        assert ("immutable" in told) == ("/vendor/" in file), file
    assert any("/vendor/" in file for file in files)


def test_a_file_that_is_known_is_not_sent_again(server):
    first = server.client.get("/dashboard/page.css")
    again = server.client.get(
        "/dashboard/page.css", headers={"if-none-match": first.headers["etag"]}
    )

    assert (again.status_code, again.content) == (304, b"")
    other = server.client.get("/dashboard/page.css", headers={"if-none-match": '"other"'})
    assert other.content == first.content


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/page.css"])
def test_a_monitor_may_ask_for_the_head_alone(server, path):
    whole, head = server.client.get(path), server.client.head(path)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == whole.headers["etag"]


def test_licences_stand_beside_what_others_wrote(server):
    for path in (
        "/dashboard/vendor/uPlot-1.6.32.LICENSE.txt",
        "/schema/page/vendor/swagger-ui-5.35.0.LICENSE.txt",
    ):
        assert "icense" in server.client.get(path).text


def test_machines_get_the_document_and_browsers_the_page(server):
    document = server.client.get("/schema/openapi.json").json()

    assert server.client.get("/schema").json() == document
    assert server.client.get("/schema", headers={"accept": "application/json"}).json() == document
    page = server.client.get("/schema", headers=HTML)
    assert "text/html" in page.headers["content-type"]
    yaml = server.client.get("/schema/openapi.yaml")
    assert yaml.status_code == 200
    assert "openapi: 3.1" in yaml.text


@pytest.mark.parametrize(
    "path", ["/schema/nope", "/schema/nope.json", "/schema/a/b", "/dashboard/x"]
)
def test_an_unknown_path_is_a_problem_like_all_others(server, path):
    reply = server.client.get(path, headers=HTML)

    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] == "not_found"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"host": "rebound.example:8080", "origin": "http://rebound.example:8080"},
    ],
)
def test_a_page_of_another_site_changes_nothing(server, headers):
    """Without keys loopback is trusted; a browser there can be made to post by any page."""
    reply = server.client.post("/v1/experiments/model/pause", headers=headers)

    assert reply.status_code == 403
    assert "another site" in reply.json()["detail"]
    assert server.client.get("/v1/experiments/model").json()["state"] == "running"


def test_a_page_of_another_site_forces_no_variant_either(server):
    body = {"candidates": ["i1"], "force": {"model": "ranker"}}

    reply = server.client.post("/v1/rank", json=body, headers={"origin": "https://a.example"})

    assert reply.status_code == 403


def test_our_own_page_may(server):
    headers = {"origin": server.base_url, "sec-fetch-site": "same-origin"}
    body = {"candidates": ["i1"], "force": {"model": "ranker"}}

    assert server.client.post("/v1/rank", json=body, headers=headers).status_code == 200
