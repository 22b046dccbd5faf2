"""The client against a server that misbehaves in every way a page on the web does."""

import email.utils
import gzip
import hashlib
import threading
import time
import tracemalloc
import zlib

import pytest
from frozen_site import FrozenSite, Reply

from lmcore.collect.http import Client, retry_after, user_agent
from lmcore.collect.politeness import Rules, Stopped

PAGE = "<html><body><p>Some text that is worth having.</p></body></html>"


@pytest.fixture
def site():
    with FrozenSite(pages={}, robots=Reply(404)) as site:
        yield site


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch):
    monkeypatch.setattr("lmcore.collect.http.BACKOFF", 0.05)


def client_for(site, **kwargs):
    kwargs.setdefault("private_sites", frozenset({f"127.0.0.1:{site.port}"}))
    return Client(**{"timeout": 5, "retries": 2, **kwargs})


def fetch(site, path, **kwargs):
    return client_for(site, **kwargs).fetch(site.url + path)


def raw(*chunks, pause=0.0):
    """A reply that writes bytes as they are."""

    def act(handler):
        for chunk in chunks:
            handler.wfile.write(chunk)
            handler.wfile.flush()
            time.sleep(pause)

    return Reply(act=act)


def test_good_page(site):
    site.replies["/a"] = [Reply(body=PAGE, headers={"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})]
    answer = fetch(site, "/a")
    assert (answer.outcome, answer.status, answer.tries, answer.body) == ("ok", 200, 1, PAGE.encode())
    assert answer.etag == f'"{hashlib.sha256(PAGE.encode()).hexdigest()[:16]}"'
    assert answer.last_modified.startswith("Mon")


def test_server_error_then_good(site):
    site.replies["/a"] = [Reply(500), Reply(body=PAGE)]
    answer = fetch(site, "/a")
    assert (answer.outcome, answer.tries) == ("ok", 2)


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, 3), (429, 3), (408, 3)])
def test_status_that_stays(site, status, tries):
    site.replies["/a"] = [Reply(status, headers={"Retry-After": "0"})]
    answer = fetch(site, "/a")
    outcome = "http_error" if tries == 1 else "unavailable"
    assert (answer.outcome, answer.status, answer.tries, answer.body) == (outcome, status, tries, b"")
    assert str(status) in answer.reason


def test_retry_after_in_seconds_is_obeyed(site):
    site.replies["/a"] = [Reply(429, headers={"Retry-After": "1"}), Reply(body=PAGE)]
    started = time.monotonic()
    assert fetch(site, "/a").outcome == "ok"
    assert 1.0 <= time.monotonic() - started < 30


def test_retry_after_as_date_is_obeyed_by_all_workers(site):
    started = time.monotonic()
    moment = email.utils.formatdate(time.time() + 4, usegmt=True)
    site.replies["/a"] = [Reply(503, headers={"Retry-After": moment}), Reply(body=PAGE)]
    site.replies["/b"] = [Reply(body=PAGE)]
    client = client_for(site)
    worker = threading.Thread(target=client.fetch, args=(site.url + "/a",))
    worker.start()
    while not site.requests["/a"]:
        time.sleep(0.01)
    time.sleep(1.0)  # until its answer was read
    assert client.fetch(site.url + "/b").outcome == "ok"
    assert time.monotonic() - started > 2.9
    worker.join()


def test_retry_after_forms():
    assert retry_after("120") == 120
    assert retry_after(None) is None
    assert retry_after("soon") is None
    assert retry_after("-5") is None
    assert retry_after("\u00b2") is None
    assert retry_after(" 7 ") == 7
    assert retry_after(email.utils.formatdate(time.time() - 100, usegmt=True)) == 0
    assert 50 < retry_after(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60


@pytest.mark.parametrize("part", ["headers", "body"])
def test_dripping_answer_is_cut_off(site, part):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    drip = [b"X-Drip: 1\r\n"] * 100 if part == "headers" else [b"<p>drip</p>"] * 100
    start = [b"HTTP/1.1 200 OK\r\n"] if part == "headers" else [head]
    site.replies["/a"] = [raw(*start, *drip, pause=0.1)]
    started = time.monotonic()
    answer = fetch(site, "/a", timeout=1)
    assert answer.outcome == "too_slow"
    assert time.monotonic() - started < 8, "the whole answer takes ten seconds"
    assert site.requests["/a"] == 1


def test_silent_server_is_tried_again(site):
    site.replies["/a"] = [raw(pause=1), raw(b"HTTP/1.1 200 OK\r\n", pause=1), Reply(body=PAGE)]
    answer = fetch(site, "/a", timeout=1)
    assert (answer.outcome, answer.tries) == ("ok", 3)
    site.replies["/b"] = [raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", pause=10)]
    assert fetch(site, "/b", timeout=1, retries=0).outcome == "timeout"


def test_closed_connection_and_garbage(site):
    site.replies["/a"] = [raw(b"")]
    assert fetch(site, "/a", retries=1).outcome == "unreachable"
    assert site.requests["/a"] == 2
    site.replies["/b"] = [raw(b"what is this?\r\n\r\n")]
    assert fetch(site, "/b", retries=0).outcome == "unreachable"


def test_truncated_gzip(site):
    packed = gzip.compress(PAGE.encode() * 100)
    half = Reply(body=packed[: len(packed) // 2], headers={"Content-Encoding": "gzip"})
    site.replies["/a"] = [half]
    answer = fetch(site, "/a")
    assert (answer.outcome, answer.tries, answer.body) == ("truncated", 3, b"")
    site.replies["/b"] = [half, Reply(body=packed, headers={"Content-Encoding": "gzip"})]
    answer = fetch(site, "/b")
    assert (answer.outcome, answer.tries, answer.body) == ("ok", 2, PAGE.encode() * 100)


def test_body_shorter_than_declared(site):
    site.replies["/a"] = [
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
    ]
    assert fetch(site, "/a", retries=0).outcome == "truncated"
    chunk = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    site.replies["/b"] = [raw(chunk)]
    assert fetch(site, "/b", retries=0).outcome == "truncated"
    site.replies["/c"] = [raw(chunk + b"0\r\n\r\n")]
    assert fetch(site, "/c", retries=0).body == b"hello"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate", "two gzip members"])
def test_encodings(site, encoding):
    data = PAGE.encode() * 50
    deflate = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(data),
        "deflate": zlib.compress(data),
        "raw deflate": deflate.compress(data) + deflate.flush(),
        "two gzip members": gzip.compress(data[:100]) + gzip.compress(data[100:]),
    }[encoding]
    site.replies["/a"] = [
        Reply(body=packed, headers={"Content-Encoding": "deflate" if "deflate" in encoding else "gzip"})
    ]
    assert fetch(site, "/a").body == data


def test_encodings_that_cannot_be_undone(site):
    site.replies["/a"] = [Reply(body=b"this is no gzip", headers={"Content-Encoding": "gzip"})]
    assert fetch(site, "/a").outcome == "undecodable"
    site.replies["/b"] = [Reply(body=b"x", headers={"Content-Encoding": "br"})]
    assert fetch(site, "/b").outcome == "undecodable"


@pytest.mark.parametrize("packed", [False, True])
def test_page_of_fifty_megabytes_is_never_held(site, packed):
    body = b"<p>large</p>\n" * (50_000_000 // 13)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    site.replies["/a"] = [Reply(body=gzip.compress(body, 1) if packed else body, headers=headers)]
    del body
    client = client_for(site, max_bytes=1_000_000)
    client.fetch(site.url + "/warm-up")
    tracemalloc.start()
    answer = client.fetch(site.url + "/a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answer.outcome, answer.body, answer.tries) == ("too_large", b"", 1)
    assert peak < 8_000_000


def test_largest_page_that_fits(site):
    site.replies["/a"] = [Reply(body=b"x" * 1000)]
    assert fetch(site, "/a", max_bytes=1000).outcome == "ok"
    assert fetch(site, "/a", max_bytes=999).outcome == "too_large"


def test_content_type_is_checked(site):
    site.replies["/a"] = [Reply(body=b"%PDF-1.4", content_type="application/pdf")]
    answer = fetch(site, "/a")
    assert (answer.outcome, answer.reason) == ("content_type", "content type application/pdf")


def test_redirects(site):
    site.replies["/a"] = [Reply(301, headers={"Location": "/b?x=1#frag"})]
    site.replies["/b?x=1"] = [Reply(302, headers={"Location": f"{site.url}/c"})]
    site.replies["/c"] = [Reply(body=PAGE)]
    answer = fetch(site, "/a")
    assert (answer.outcome, answer.url, answer.final_url, answer.tries) == ("ok", site.url + "/a", site.url + "/c", 3)


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "ftp://example.org/x", "http://[broken", "http://user:pw@127.0.0.1/"]
)
def test_redirect_to_no_page(site, target):
    site.replies["/a"] = [Reply(302, headers={"Location": target})]
    assert fetch(site, "/a").outcome == "redirect_refused"


def test_body_of_a_redirect_is_not_read(site):
    def endless(handler):
        handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n")
        while True:
            handler.wfile.write(b"x" * 100_000)

    site.replies["/a"] = [Reply(act=endless)]
    site.replies["/b"] = [Reply(body=PAGE)]
    assert fetch(site, "/a").outcome == "ok"


def test_redirect_loops(site):
    site.replies["/a"] = [Reply(302, headers={"Location": "/b"})]
    site.replies["/b"] = [Reply(302, headers={"Location": "/a#again"})]
    assert fetch(site, "/a").outcome == "redirect_loop"
    assert site.requests["/a"] == 1
    for number in range(20):
        site.replies[f"/long/{number}"] = [Reply(302, headers={"Location": f"/long/{number + 1}"})]
    answer = fetch(site, "/long/0")
    assert answer.outcome == "redirect_loop"
    assert sum(count for path, count in site.requests.items() if path.startswith("/long")) == 11


def test_redirect_to_a_private_address_is_refused(site):
    with FrozenSite(pages={"/secret": Reply(body=PAGE)}, robots=Reply(404)) as other:
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            site.replies["/a"] = [Reply(302, headers={"Location": f"http://{host}:{other.port}/secret"})]
            answer = fetch(site, "/a")
            assert answer.outcome in ("private_address", "robots_unavailable"), host
            assert "private address" in answer.reason
        assert not other.requests


def test_private_addresses_need_permission(site):
    answer = client_for(site, private_sites=frozenset()).fetch(site.url + "/a")
    assert "private address 127.0.0.1" in answer.reason
    assert not site.requests


def test_name_that_changes_its_address(site, monkeypatch):
    """DNS may answer differently the second time: the connected socket has the last word."""
    monkeypatch.setattr("lmcore.collect.transport._refuse_private", lambda host, resolve: None)
    answer = client_for(site, private_sites=frozenset(), known_robots={site.url: Rules()}).fetch(site.url + "/a")
    assert (answer.outcome, answer.tries) == ("private_address", 1)
    assert not site.requests


def test_plain_server_behind_https(site):
    client = Client(
        timeout=5,
        private_sites=frozenset({f"127.0.0.1:{site.port}"}),
        known_robots={f"https://127.0.0.1:{site.port}": Rules()},
    )
    answer = client.fetch(f"https://127.0.0.1:{site.port}/a")
    assert (answer.outcome, answer.tries) == ("tls_error", 1)


def test_dead_port(site):
    with FrozenSite(pages={}) as other:
        port = other.port
    client = Client(
        timeout=5,
        retries=1,
        private_sites=frozenset({f"127.0.0.1:{port}"}),
        known_robots={f"http://127.0.0.1:{port}": Rules()},
    )
    answer = client.fetch(f"http://127.0.0.1:{port}/")
    assert (answer.outcome, answer.reason, answer.tries) == ("unreachable", "Connection refused", 2)


def test_who_we_say_we_are(site):
    site.replies["/a"] = [Reply(body=PAGE, headers={"Set-Cookie": "id=7; Path=/"})]
    client = client_for(site, contact="mailto:someone@example.org")
    client.fetch(site.url + "/a")
    client.fetch(site.url + "/a")
    for headers in site.headers["/a"]:
        assert headers["User-Agent"].startswith("collect-train/")
        assert headers["User-Agent"].endswith("(+mailto:someone@example.org)")
        assert "Cookie" not in headers
        assert "Authorization" not in headers
    assert user_agent("") == user_agent("x").partition(" ")[0]


def test_no_proxy_for_ones_own_site(site, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    site.replies["/a"] = [Reply(body=PAGE)]
    assert fetch(site, "/a").outcome == "ok"


class TestRobots:
    def test_fetched_once_and_obeyed(self):
        rules = "User-agent: *\nDisallow: /private\nDisallow: /*.secret$\n\nUser-agent: other\nDisallow: /\n"
        with FrozenSite(robots=rules) as site:
            client = client_for(site)
            threads = [threading.Thread(target=client.fetch, args=(f"{site.url}/section/{n}",)) for n in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert client.fetch(site.url + "/private/diary.html").outcome == "robots_denied"
            assert client.fetch(site.url + "/a/b.secret").outcome == "robots_denied"
            assert site.requests["/robots.txt"] == 1
            assert site.hits["/section/4"] == 1
            assert not site.requests["/private/diary.html"]

    def test_a_rule_for_us(self):
        with FrozenSite(robots="User-agent: collect-train\nDisallow: /\n\nUser-agent: *\nAllow: /\n") as site:
            assert fetch(site, "/").outcome == "robots_denied"

    @pytest.mark.parametrize("status", [404, 403, 410])
    def test_absent_means_allowed(self, status):
        with FrozenSite(robots=Reply(status)) as site:
            assert fetch(site, "/").outcome == "ok"

    @pytest.mark.parametrize("status", [500, 503, 429])
    def test_broken_means_forbidden(self, status):
        with FrozenSite(robots=Reply(status, headers={"Retry-After": "0"})) as site:
            answer = fetch(site, "/")
            assert (answer.outcome, answer.reason) == (
                "robots_unavailable",
                f"robots.txt was answered with status {status}",
            )
            assert site.requests["/robots.txt"] == 3
            assert not site.requests["/"]

    def test_broken_once(self):
        with FrozenSite(robots="User-agent: *\nDisallow: /section\n") as site:
            site.replies["/robots.txt"].insert(0, Reply(500))
            client = client_for(site)
            assert client.fetch(site.url + "/").outcome == "ok"
            assert client.fetch(site.url + "/section/1").outcome == "robots_denied"

    def test_behind_a_redirect(self):
        with FrozenSite(robots=Reply(301, headers={"Location": "/rules"})) as site:
            site.replies["/rules"] = [Reply(body="User-agent: *\nDisallow: /", content_type="text/plain")]
            assert fetch(site, "/").outcome == "robots_denied"

    def test_of_ten_megabytes(self):
        text = "User-agent: *\nDisallow: /section\n" + "# filler\n" * 1_200_000
        with FrozenSite(robots=text) as site:
            client = client_for(site)
            assert client.fetch(site.url + "/section/0").outcome == "robots_denied"
            assert client.fetch(site.url + "/").outcome == "ok"

    def test_redirect_into_the_forbidden(self):
        with FrozenSite() as site:
            site.replies["/a"] = [Reply(302, headers={"Location": "/private/diary.html"})]
            assert fetch(site, "/a").outcome == "robots_denied"
            assert not site.requests["/private/diary.html"]

    def test_crawl_delay(self):
        with FrozenSite(robots="User-agent: *\nCrawl-delay: 0.3\n") as site:
            client = client_for(site)
            started = time.monotonic()
            threads = [threading.Thread(target=client.fetch, args=(f"{site.url}/section/{n}",)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert time.monotonic() - started >= 0.9
            assert sum(site.requests[f"/section/{n}"] for n in range(4)) == 4

    def test_crawl_delay_beyond_patience(self):
        with FrozenSite(robots="User-agent: *\nCrawl-delay: 86400\n") as site:
            assert fetch(site, "/").outcome == "robots_denied"


def test_own_delay(site):
    site.replies["/a"] = [Reply(body=PAGE)]
    client = client_for(site, delay=0.3)
    started = time.monotonic()
    for _ in range(3):
        client.fetch(site.url + "/a")
    assert time.monotonic() - started >= 0.9  # robots.txt, then three pages


def test_close_wakes_those_who_wait(site):
    site.replies["/a"] = [Reply(503, headers={"Retry-After": "50"})]
    client = client_for(site)
    caught = []

    def work():
        try:
            client.fetch(site.url + "/a")
        except Stopped as error:
            caught.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    while not site.requests["/a"]:
        time.sleep(0.01)
    client.close()
    worker.join(40)  # it was asked to wait for fifty seconds
    assert not worker.is_alive()
    assert len(caught) == 1
