"""What fails in passing (a 503, a host that is away, a kill in the middle) costs no text and is asked for again."""

import json
import signal

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import FilesSource, digests, documents, run, web
from test_collect_kill import finish, start

from lmcore.collect.http import Client
from storage.errors import RunError

BUSY = Reply(503, "busy", headers={"Retry-After": "0"})


class TestDownloads:
    @pytest.mark.parametrize("point", ["collect.part-removed", "collect.part-begun"])
    def test_killed_while_a_download_begins_again(self, tmp_path, point):
        """The beginning of one version never gets the end of another."""
        old, new = b"OLD text. " * 20_000, b"NEW text. " * 20_000

        def half(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(old)))
            handler.send_header("ETag", '"old"')
            handler.end_headers()
            handler.wfile.write(old[: len(old) // 2])

        with FrozenSite(pages={"/a.txt": Reply(act=half)}) as site:
            params = FilesSource(name="texts", paths=(f"{site.url}/a.txt",))
            with pytest.raises(RunError, match="truncated"):
                run(tmp_path / "work", params)
            (part,) = (tmp_path / "work" / "downloads").glob("*.part")
            assert part.stat().st_size == len(old) // 2
            site.replies["/a.txt"] = [Reply(body=new)]
            code, _ = finish(start(tmp_path, params, point))
            assert code == -signal.SIGKILL
            assert finish(start(tmp_path, params))[0] == 0
            run(tmp_path / "undisturbed", params)
        assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")
        (row,) = documents(tmp_path / "work")
        assert "OLD" not in row["text"]

    @pytest.mark.parametrize(("goes_on", "most", "outcome"), [
        (False, 400_000, "ok"), (True, 300_000, "ok"), (True, 299_999, "too_large"), (False, 299_999, "too_large"),
    ])  # fmt: skip
    def test_what_has_come_takes_room_only_where_it_is_gone_on_from(self, tmp_path, goes_on, most, outcome):
        new = b"NEW" * 100_000
        with FrozenSite(pages={"/x": Reply(body=new, content_type="text/plain")}) as site:
            sites = frozenset({f"127.0.0.1:{site.port}"})
            etag = Client(private_sites=sites).fetch(f"{site.url}/x").etag if goes_on else '"old"'
            path = tmp_path / "x"
            path.with_name("x.part").write_bytes(new[:250_000] if goes_on else b"OLD" * 80_000)
            path.with_name("x.part.json").write_text(json.dumps({"url": f"{site.url}/x", "etag": etag}))
            response = Client(private_sites=sites, max_bytes=most).download(f"{site.url}/x", path)
            assert "Range" in site.headers["/x"][-1]
        assert response.outcome == outcome
        if outcome == "ok":
            assert path.read_bytes() == new
        else:
            assert list(tmp_path.iterdir()) == []

    def test_robots_txt_that_failed_is_asked_for_by_the_next_run(self, tmp_path):
        with FrozenSite(pages={"/a.txt": Reply(body="a text")}, robots=BUSY) as site:
            params = FilesSource(name="texts", paths=(f"{site.url}/a.txt",))
            with pytest.raises(RunError, match="robots_unavailable"):
                run(tmp_path, params)
            site.replies["/robots.txt"] = [Reply(404)]
            assert run(tmp_path, params)["records"] == 1
