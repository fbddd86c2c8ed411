"""Who may ask: hosts, origins, and the headers of every answer."""

import numpy as np
import pytest
from index_samples import Item, linear_hasher
from starlette.testclient import TestClient

from jaxhash.retrieval.index import Index
from jaxhash.serve.app import make_app

URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("made") / "index", linear_hasher(), root=None)
    index.add(np.array([[255, 240]], np.uint8), [Item("v#0", 4, 0)], [""])
    with TestClient(make_app(index.folder, hosts=["photos.example"]), base_url=URL) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "localhost:1",
        "LOCALHOST",
        "[::1]:8000",
        "10.0.0.7",
        "photos.example:80",
    ],
)
def test_hosts_that_are_this_machine(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "::1",
        "127.0.0.1@evil.example",
        "[evil.example]",
        "127.0.0.1:80:80",
        "photos.example.evil.example",
    ],
)
def test_other_hosts_are_refused(client, host):
    for path in ("/", "/health", "/items/0/image"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 400 and list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": URL}, 200),
        ({"Origin": URL, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8001"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_posts_of_other_origins_are_refused(client, headers, status):
    answer = client.post("/search", json={"vector": [0.5] * 4}, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/health", "/nothing", "/items/7"])
def test_every_answer_has_the_headers_and_none_of_cors(client, path):
    headers = client.get(path, headers={"Origin": "http://evil.example"}).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not any(name.startswith("access-control") for name in headers)
