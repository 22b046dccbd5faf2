"""A token is told to its host and to nobody else, and is written down nowhere."""

import json

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import FilesSource, documents, log
from hub_site import HubSite

from lmcore.collect.http import Client
from lmcore.collect.hub_params import HubSource
from lmcore.collect.params import CollectRuntime
from lmcore.collect.source import collect
from lmcore.collect.tokens import Tokens
from lmcore.progress import silent
from storage.errors import UserError

TOKEN = "hf_NeverToBeSeen.0123456789"


def site_name(site):
    return f"127.0.0.1:{site.port}"


def gather(work, params, tokens):
    return collect(
        work, edition="e", parent=None, parent_digest=None, locate=None, params=params, runtime=CollectRuntime(),
        report=silent, tokens=tokens,
    )  # fmt: skip


def told(site):
    """What each path was told as Authorization."""
    return {path: [said.get("Authorization") for said in headers] for path, headers in site.headers.items()}


def test_only_its_host_is_told(tmp_path):
    with FrozenSite(pages={"/b": Reply(body="b")}) as other, FrozenSite(pages={"/c": Reply(body="c")}) as site:
        site.replies["/a"] = [Reply(302, headers={"Location": "/c"})]
        site.replies["/out"] = [Reply(302, headers={"Location": f"{other.url}/b"})]
        other.replies["/back"] = [Reply(302, headers={"Location": f"{site.url}/c"})]
        client = Client(
            private_sites=frozenset({site_name(site), site_name(other)}), tokens=Tokens({site_name(site): TOKEN})
        )
        assert client.fetch(f"{site.url}/a", types=None).body == b"c"
        assert client.fetch(f"{site.url}/out", types=None).body == b"b"
        assert client.download(f"{site.url}/out", tmp_path / "b").outcome == "ok"
        assert client.fetch(f"{other.url}/back", types=None).body == b"c"
        client.close()
    bearer = f"Bearer {TOKEN}"
    assert told(site) == {
        "/robots.txt": [bearer], "/a": [bearer], "/c": [bearer, bearer], "/out": [bearer, bearer],
    }  # fmt: skip
    assert told(other) == {"/robots.txt": [None], "/b": [None, None], "/back": [None]}


def test_it_does_not_cross_a_public_net_in_the_open():
    tokens = Tokens({"huggingface.co": TOKEN, "example.org:80": TOKEN, "localhost:8080": TOKEN})
    assert tokens.headers("https://huggingface.co/x") == {"Authorization": f"Bearer {TOKEN}"}
    assert tokens.headers("http://localhost:8080/x")
    for url in (
        "http://huggingface.co/x",
        "http://example.org/x",
        "https://huggingface.co.evil.org/",
        "https://cdn.huggingface.co/",
    ):
        assert not tokens.headers(url)


@pytest.mark.parametrize("wrong", ["xyz", "hf_ab cd", "hf_abcd\n", "hf_äbcd", 'hf_abcd"\r\nX: y', "x" * 5000])
def test_what_can_be_no_token_is_said_without_it(wrong):
    with pytest.raises(UserError) as error:
        Tokens({"huggingface.co": wrong})
    assert wrong.strip() not in str(error.value)
    assert "huggingface.co" in error.value.what


def test_it_is_not_printed():
    tokens = Tokens({"huggingface.co": TOKEN})
    assert TOKEN not in f"{tokens} {tokens!r} {[tokens]}"
    with pytest.raises(UserError, match="is no host"):
        Tokens({"huggingface.co/datasets": TOKEN})


def test_a_server_that_repeats_it_does_not_get_it_kept():
    with FrozenSite(pages={"/c": Reply(body="c")}) as site:
        site.replies[f"/c?token={TOKEN}"] = [Reply(body="c", headers={"ETag": f'"{TOKEN}"'})]
        site.replies["/a"] = [Reply(302, headers={"Location": f"/c?token={TOKEN}"})]
        site.replies["/body"] = [Reply(body=f"you said {TOKEN}")]
        client = Client(private_sites=frozenset({site_name(site)}), tokens=Tokens({site_name(site): TOKEN}))
        answer, body = client.fetch(f"{site.url}/a"), client.fetch(f"{site.url}/body")
        client.close()
    assert (answer.final_url, answer.etag) == (f"{site.url}/c?token=***", '"***"')
    assert (body.outcome, body.body) == ("token_repeated", b"")


def test_a_gated_data_set_opens_and_its_redirect_is_told_by_host_only(tmp_path, monkeypatch):
    with HubSite(token=TOKEN, gated=frozenset({"mills/gated"})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.commit("mills/gated", {"train.jsonl": b'{"text": "A secret story."}\n'})
        params = HubSource(name="gated", dataset="mills/gated")
        with pytest.raises(UserError, match="not for everyone"):
            gather(tmp_path, params, Tokens({}))
        gather(tmp_path, params, Tokens({site_name(hub): TOKEN}))
    assert [row["text"] for row in documents(tmp_path)] == ["A secret story."]
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()
    assert TOKEN not in json.dumps(log(tmp_path))


def test_files_of_a_host_that_wants_one(tmp_path):
    def answer(handler):
        good = handler.headers.get("Authorization") == f"Bearer {TOKEN}"
        handler.send_response(200 if good else 401)
        handler.end_headers()
        handler.wfile.write(b"The text of the file." if good else b"")

    with FrozenSite(pages={"/a.txt": Reply(act=answer)}) as site:
        gather(tmp_path, FilesSource(name="files", paths=(f"{site.url}/a.txt",)), Tokens({site_name(site): TOKEN}))
    assert documents(tmp_path)[0]["text"] == "The text of the file."
