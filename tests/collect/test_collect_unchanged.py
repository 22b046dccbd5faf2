"""What has not changed is not sent again: pages by their validators, files as a whole, and downloads go on."""

import gzip
import json

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import FilesSource, digests, log, run, web

from lmcore.collect.editions import load_edition
from lmcore.collect.http import Client
from lmcore.collect.responses import RESPONSES
from storage.errors import RunError
from storage.parquet import read_parquet

TEXT = "<p>" + "A page of the site with quite enough words. " * 9 + "</p>"
LINKS = '<a href="/a">a</a><a href="/b">b</a>'
PAGES = {"/": Reply(body=TEXT + LINKS), "/a": Reply(body=TEXT + "A"), "/b": Reply(body=TEXT + "B")}
ROWS = "\n".join(json.dumps({"text": f"text number {n}"}) for n in range(40))


class Editions:
    """Editions of one source, each the parent of the next."""

    def __init__(self, tmp_path, params):
        self.tmp_path, self.params, self.folders = tmp_path, params, []

    def make(self, params=None, **runtime):
        number = len(self.folders)
        parent = self.folders[-1] if self.folders else None
        work = self.tmp_path / f"work{number}"
        self.metrics = run(
            work, params or self.params, edition=f"e{number}", parent=parent,
            parent_digest=f"d{number - 1}" if parent else None, locate=self.locate, **runtime,
        )  # fmt: skip
        self.folders.append(work / "out")
        return work

    def locate(self, digest):
        return self.folders[int(digest[1:])]

    def texts(self):
        rows = load_edition(self.folders[-1], self.locate).to_pylist()
        return {row["url"]: (row["text"], row["edition"]) for row in rows}


def responses(work):
    found = [read_parquet(path) for path in sorted((work / "out" / RESPONSES).glob("*.parquet"))]
    return {row["url"].rsplit("/", 1)[1]: row for table in found for row in table.to_pylist()}


class TestPages:
    def test_pages_as_before_are_not_sent(self, tmp_path):
        with FrozenSite(pages=dict(PAGES)) as site:
            editions = Editions(tmp_path, web(site))
            first = editions.make()
            assert responses(first)["a"]["body"] == (TEXT + "A").encode()
            site.hits.clear()
            site.replies["/b"] = [Reply(body=TEXT + "Changed since.")]
            second = editions.make()
            assert dict(site.hits) == {"/b": 1, "/robots.txt": 1}
            assert (editions.metrics["records"], editions.metrics["new"]) == (3, 1)
            assert {row["url"].rsplit("/", 1)[1]: row["status"] for row in log(second)} == {"": 304, "a": 304, "b": 200}
            kept = responses(second)
            assert {name: row["held_by"] for name, row in kept.items()} == {"": "d0", "a": "d0", "b": None}
            assert kept["a"]["body"] is None
            third = editions.make()
            assert {name: row["held_by"] for name, row in responses(third).items()} == {"": "d0", "a": "d0", "b": "d1"}
            assert {url.rsplit("/", 1)[1]: edition for url, (_, edition) in editions.texts().items()} == {
                "": "e0", "a": "e0", "b": "e1",
            }  # fmt: skip

    def test_an_edition_over_unchanged_pages_is_as_one_that_fetched_them(self, tmp_path):
        with FrozenSite() as site:
            editions = Editions(tmp_path / "kept", web(site))
            editions.make()
            site.hits.clear()
            work = editions.make()
            assert dict(site.hits) == {"/robots.txt": 1}
            anew = tmp_path / "anew"
            run(anew, web(site), edition="e1", parent=editions.folders[0], parent_digest="d0", locate=editions.locate)
        assert digests(work / "out") == digests(anew / "out")

    def test_other_settings_read_what_is_there_anew(self, tmp_path):
        with FrozenSite(pages=dict(PAGES)) as site:
            editions = Editions(tmp_path, web(site))
            editions.make()
            site.hits.clear()
            editions.make(web(site, blank=("with quite",)))
            assert not site.hits["/a"]
            assert all("with quite" not in text for text, _ in editions.texts().values())

    def test_where_the_answers_are_damaged_pages_are_fetched(self, tmp_path):
        told = []
        with FrozenSite(pages=dict(PAGES)) as site:
            editions = Editions(tmp_path, web(site))
            work = editions.make()
            (file,) = (work / "out" / RESPONSES).glob("*.parquet")
            file.write_bytes(b"PAR1")
            site.hits.clear()
            editions.make(report=lambda done, total, note="": told.append(note))
            assert site.hits["/a"] == 1
            assert editions.metrics["unchanged"] == 3
        assert any("fetched anew" in note for note in told)

    def test_where_an_earlier_edition_is_gone_its_pages_are_fetched(self, tmp_path):
        def locate(digest):
            if digest == "d0":
                raise RunError("the first edition is gone", "")
            return editions.folders[int(digest[1:])]

        with FrozenSite(pages=dict(PAGES)) as site:
            editions = Editions(tmp_path, web(site))
            editions.make()
            site.replies["/b"] = [Reply(body=TEXT + "Changed since.")]
            editions.make()
            site.hits.clear()
            editions.locate = locate
            editions.make()
            assert {path: site.hits[path] for path in PAGES} == {"/": 1, "/a": 1, "/b": 0}


class TestFiles:
    def test_a_file_as_before_is_not_sent(self, tmp_path):
        with FrozenSite(pages={"/rows.jsonl": Reply(body=ROWS)}) as site:
            editions = Editions(tmp_path, FilesSource(name="rows", paths=(f"{site.url}/rows.jsonl",)))
            work = editions.make()
            assert editions.metrics["records"] == 40
            assert f"{site.url}/rows.jsonl#40" in editions.texts()
            assert responses(work)["rows.jsonl"]["body"] is None
            site.hits.clear()
            second = editions.make()
            assert not site.hits["/rows.jsonl"]
            assert (editions.metrics["records"], editions.metrics["new"]) == (40, 0)
            assert [row["outcome"] for row in log(second)] == ["unchanged"]
            editions.make()
            assert not site.hits["/rows.jsonl"]
            site.replies["/rows.jsonl"] = [Reply(body=ROWS + '\n{"text": "one more"}')]
            editions.make()
            assert (editions.metrics["records"], editions.metrics["new"]) == (41, 1)

    def test_other_settings_read_it_anew(self, tmp_path):
        with FrozenSite(pages={"/rows.jsonl": Reply(body=ROWS)}) as site:
            paths = (f"{site.url}/rows.jsonl",)
            editions = Editions(tmp_path, FilesSource(name="rows", paths=paths))
            editions.make()
            editions.make(FilesSource(name="rows", paths=paths, min_chars=14))
            assert site.hits["/rows.jsonl"] == 2
            assert editions.metrics["records"] == 30

    def test_a_packed_file_that_breaks_off_goes_on(self, tmp_path):
        data = gzip.compress(ROWS.encode())

        def half(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.send_header("ETag", '"whole"')
            handler.end_headers()
            handler.wfile.write(data[:100])

        def rest(handler):
            begin = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            assert handler.headers["If-Range"] == '"whole"'
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            handler.send_header("Content-Length", str(len(data) - begin))
            handler.end_headers()
            handler.wfile.write(data[begin:])

        with FrozenSite(pages={}) as site:
            site.replies["/rows.jsonl.gz"] = [Reply(act=half), Reply(act=rest)]
            path = tmp_path / "rows"
            client = Client(private_sites=frozenset({f"127.0.0.1:{site.port}"}))
            response = client.download(f"{site.url}/rows.jsonl.gz", path)
            client.close()
        assert (response.outcome, response.tries, response.size) == ("ok", 2, len(data))
        assert path.read_bytes() == data
        assert [file.name for file in tmp_path.iterdir()] == ["rows"]

    @pytest.mark.parametrize("outcome", ["changed", "too_large", "wrong range"])
    def test_a_part_of_something_else_is_thrown_away(self, tmp_path, outcome):
        with FrozenSite(pages={"/file": Reply(body="new" * 100)}) as site:
            path = tmp_path / "file"
            path.with_name("file.part").write_bytes(b"old" * 200)
            about = {"url": f"{site.url}/file", "etag": '"old"'}
            path.with_name("file.part.json").write_text(json.dumps(about))
            if outcome == "wrong range":
                site.replies["/file"].insert(0, Reply(206, b"x", headers={"Content-Range": "bytes 7-7/8"}))
            client = Client(
                max_bytes=100 if outcome == "too_large" else 10_000,
                private_sites=frozenset({f"127.0.0.1:{site.port}"}),
            )
            response = client.download(f"{site.url}/file", path)
            client.close()
        if outcome == "too_large":
            assert response.outcome == "too_large"
            assert list(tmp_path.iterdir()) == []
        else:
            assert path.read_bytes() == b"new" * 100

    def test_a_server_that_is_gone_stops_the_run_and_nothing_is_asked_twice(self, tmp_path):
        with FrozenSite(pages={"/a.txt": Reply(body="the first file")}) as site:
            gone = f"{site.url}/b.txt"
            site.replies["/b.txt"] = [Reply(act=lambda handler: None)]
            params = FilesSource(name="texts", paths=(f"{site.url}/a.txt", gone))
            with pytest.raises(RunError, match="could not be had"):
                run(tmp_path, params)
            site.replies["/b.txt"] = [Reply(body="the second file")]
            assert run(tmp_path, params)["records"] == 2
            assert site.hits["/a.txt"] == 1

    def test_a_file_that_is_not_there_is_a_row_of_the_log(self, tmp_path):
        with FrozenSite(pages={"/a.txt": Reply(body="the first file")}) as site:
            run(tmp_path, FilesSource(name="texts", paths=(f"{site.url}/a.txt", f"{site.url}/b.txt")))
        assert {row["url"][-5:]: (row["outcome"], row["status"]) for row in log(tmp_path)} == {
            "a.txt": ("ok", 200), "b.txt": ("http_error", 404),
        }  # fmt: skip

    def test_a_public_host_needs_a_contact(self, tmp_path):
        with pytest.raises(Exception, match="needs a contact"):
            run(tmp_path, FilesSource(name="texts", paths=("https://example.org/a.txt",)))
