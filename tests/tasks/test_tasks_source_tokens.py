"""Tokens out of the environment and Secret blocks; whatever becomes of a run, nothing that is left holds one."""

import io
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from frozen_site import Reply
from hub_site import HubSite
from prefect.blocks.system import Secret

from lmcore.collect.feed_params import FeedSource
from lmcore.collect.hub_params import HubSource
from lmcore.collect.params import CollectRuntime, FilesSource, WebSource
from storage.errors import RunError, UserError
from storage.redact import blank_secrets
from storage.store import Store
from tasks.collect import CollectParams, collect
from tasks.source_tokens import tokens_for

pytestmark = pytest.mark.usefixtures("prefect_server")
TOKEN = "hf_OfABlock.0123456789abcdef"
OTHER = "hf_OfTheEnvironment.0123456789"
ROWS = b"".join(b'{"text": "Story %d of the mill."}\n' % n for n in range(30))


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch):
    for name in ("HF_TOKEN", "HF_ENDPOINT", "MY_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def block():
    Secret(value=TOKEN).save("hf-token", overwrite=True)
    yield
    Secret.delete("hf-token")


@pytest.fixture
def hub(monkeypatch):
    with HubSite(token=TOKEN, gated=frozenset({"mills/gated"})) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        site.commit("mills/gated", {"train.jsonl": ROWS, "train.parquet": _parquet()})
        yield site


def _parquet():
    out = io.BytesIO()
    pq.write_table(pa.table({"text": ["A row."]}), out)
    return out.getvalue()


def header(source, url, **runtime):
    return tokens_for(source, CollectRuntime(**runtime)).headers(url).get("Authorization")


def test_where_a_token_comes_from(monkeypatch, block):
    source, url = HubSource(name="x", dataset="a/b"), "https://huggingface.co/api"
    assert header(source, url) == f"Bearer {TOKEN}"
    assert blank_secrets(f"it is {TOKEN}.") == "it is ***."
    monkeypatch.setenv("HF_TOKEN", f"{OTHER}\n")
    assert header(source, url) == f"Bearer {OTHER}"
    monkeypatch.setenv("HF_TOKEN", "not a token")
    with pytest.raises(UserError, match="cannot be one") as error:
        tokens_for(source, CollectRuntime())
    assert "not a token" not in str(error.value)


def test_where_there_is_none():
    assert header(HubSource(name="x", dataset="a/b"), "https://huggingface.co/api") is None
    assert header(HubSource(name="x", dataset="a/b"), "https://huggingface.co/api", tokens={}) is None


def test_only_hosts_that_the_source_names(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", OTHER)
    mine = {"files.example.org": "my-token"}
    url = "https://files.example.org/a.txt"
    assert header(FilesSource(name="x", paths=(url,)), url, tokens=mine) == f"Bearer {OTHER}"
    assert header(FilesSource(name="x", paths=("a.txt",)), url, tokens=mine) is None
    assert header(WebSource(name="x", seeds=(url,)), url, tokens=mine) is None
    assert (
        header(FeedSource(name="x", feeds=("https://files.example.org/feed",)), url, tokens=mine) == f"Bearer {OTHER}"
    )


def test_no_token_in_a_recipe():
    with pytest.raises(ValueError, match="name of the token") as error:
        CollectRuntime(tokens={"huggingface.co": "hf_AbCdEfGh"})
    for other in ("aws-secret-access-key", "home", "token-of-mine", "mytoken"):  # no other secret goes anywhere
        with pytest.raises(ValueError, match="end in -token"):
            CollectRuntime(tokens={"evil.example": other})
    assert CollectRuntime(tokens={"a.example": "token", "b.example": "b-token"}).tokens
    assert "runtime" not in str(error.value)


@pytest.mark.parametrize("given", ["block", "environment"])
def test_it_is_nowhere_to_be_found(given, hub, tmp_path, monkeypatch, capfd, caplog, told):
    """Neither in the store, nor in the work folder of a run that failed half-way, nor in anything that was printed."""
    caplog.set_level("DEBUG")
    secret = TOKEN
    if given == "block":
        Secret(value=TOKEN).save("hf-token", overwrite=True)
    else:
        hub.token = secret = OTHER
        monkeypatch.setenv("HF_TOKEN", OTHER)
    store = Store(tmp_path / "store")
    params = CollectParams(source=HubSource(name="gated", dataset="mills/gated"), edition="first")
    sha = hub.commits["mills/gated", "main"][0]["sha"]
    broken = f"/datasets/mills/gated/resolve/{sha}/train.parquet"
    hub.replies[broken] = [
        Reply(500, f"why {secret}?", {"Location": secret, "ETag": f'"{secret}"', "Retry-After": "0"})
    ]
    try:
        with pytest.raises(RunError) as error:
            collect(store, [], [], params=params, runtime=CollectRuntime())
        searched = _search(tmp_path, secret)
        assert "fetched.sqlite" in searched
        assert secret not in f"{error.value.what} {error.value.mend}"
        del hub.replies[broken]
        artifact = collect(store, [], [], params=params, runtime=CollectRuntime())
        assert artifact.metrics["records"] == 31
        searched = _search(tmp_path, secret)
        assert {"manifest.json", "fetch_log.parquet", "stats.json"} <= searched
    finally:
        if given == "block":
            Secret.delete("hf-token")
    assert hub.headers[broken][-1]["Authorization"] == f"Bearer {secret}"
    out, err = capfd.readouterr()
    assert secret not in out + err + caplog.text + told()


def _search(folder, secret):
    """Fail when a file holds it, as it lies or unpacked; gives the names of the files that were looked into."""
    names = set()
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        names.add(path.name)
        assert secret not in str(path)
        texts = [path.read_bytes()]
        if path.suffix == ".parquet":
            texts.append(repr(pq.read_table(path).to_pylist()).encode())
        if path.suffix == ".sqlite":
            with sqlite3.connect(path) as database:
                texts += [repr(row).encode() for row in database.execute("select * from answer")]
                texts += [zstandard.decompress(body) for (body,) in database.execute("select body from answer") if body]
        assert not any(secret.encode() in text for text in texts), path
    return names
