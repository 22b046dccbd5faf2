"""Python's own documentation server: it knows nothing of us, dies with us, and its pages read well."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import lxml.html
import psutil
import pytest
import requests
from helpers_collect import documents, outcomes, run

from lmcore.collect.local_site import PydocSite
from lmcore.collect.params import WebSource
from lmcore.collect.pydoc_page import is_pydoc, pydoc_text, pydoc_title

CANARY = "canary-5f1d7c3e9a"
# Where the environment, the home folder and the working folder would show.
TELLING = [
    "index",
    "os",
    "posix",
    "cgi",
    "cgitb",
    "site",
    "sysconfig",
    "sys",
    "subprocess",
    "pwd",
    "platform",
    "builtins",
]
TELLING += [
    "getpass",
    "tempfile",
    "webbrowser",
    "pydoc",
    "shutil",
    "socket",
    "locale",
    "pathlib",
    "distutils",
    "multiprocessing",
]


@pytest.fixture(scope="module")
def site():
    patch = pytest.MonkeyPatch()
    patch.setenv("COLLECT_CANARY", CANARY)
    patch.setenv(CANARY.upper().replace("-", "_"), "1")
    patch.setenv("PYTHONPATH", f"/{CANARY}")
    patch.setenv("HOME", f"/home/{CANARY}")
    with PydocSite() as site:
        patch.undo()
        yield site


def get(site, path):
    return requests.get(f"http://{site.address()}{path}", timeout=60)


def page(site, path):
    return lxml.html.document_fromstring(get(site, path).content)


def test_no_byte_of_our_environment_is_on_any_page(site):
    front = get(site, "/").text
    modules = re.findall(r'href="([\w.]+\.html)"', front)
    names = [name for name in modules if not re.match(r"_?test|antigravity|xx|_tkinter|tkinter|turtle|idlelib", name)]
    wanted = list(dict.fromkeys([f"{name}.html" for name in TELLING] + ["keywords.html", "topics.html"] + names[::4]))
    assert len(wanted) > 80
    with ThreadPoolExecutor(4) as pool:
        pages = dict(zip(wanted, pool.map(lambda path: get(site, f"/{path}").content, wanted), strict=True))
    assert b"environ" in pages["os.html"]
    assert b"HOME" in pages["os.html"]
    inside = [path for path, body in pages.items() if CANARY.encode() in body or CANARY.upper().encode() in body]
    assert inside == []
    shown = set(re.findall(rb"environ\(\{(.*?)\}\)", pages["os.html"].replace(b"&#x27;", b"'")))
    assert shown
    for text in shown:
        names = set(re.findall(rb"'(\w+)':", text))
        assert names <= {b"PATH", b"HOME", b"LC_CTYPE"}
    mine = {value for name, value in os.environ.items() if len(value) > 8 and name not in ("PATH", "LC_CTYPE", "LANG")}
    mine -= {value for value in mine if any(value in path for path in (sys.prefix, sys.base_prefix, sys.executable))}
    assert [value for value in mine if value.encode() in pages["os.html"] + pages["posix.html"]] == []


def test_server_gets_next_to_no_environment(site):
    process = psutil.Process(site.pid)
    assert set(process.environ()) <= {"PATH", "HOME", "LC_CTYPE"}
    assert process.environ()["PATH"] == os.defpath
    folder = process.cwd()
    assert os.listdir(folder) == []
    assert os.listdir(os.path.join(folder, process.environ()["HOME"])) == []


def test_module_page(site):
    tree = page(site, "/heapq.html")
    assert is_pydoc(tree)
    assert pydoc_title(tree) == "module heapq"
    text = pydoc_text(tree)
    assert text.startswith("Heap queue algorithm (a.k.a. priority queue).")
    assert "heappush(heap, item, /)\nPush item onto heap, maintaining the heap invariant." in text
    assert "Python 3" not in text.split("\n")[0]
    for noise in (sys.base_prefix, "Module Reference", "Linux-", "__all__", "\xa0", "François"):
        assert noise not in text


def test_class_page_without_what_is_inherited(site):
    text = pydoc_text(page(site, "/queue.html"))
    assert (
        "class LifoQueue(Queue)\n\nLifoQueue(maxsize=0)\n\nVariant of Queue that retrieves most recently added" in text
    )
    assert text.count("Remove and return an item from the queue without blocking.") == 2  # Queue and SimpleQueue
    for noise in (
        "Method resolution order",
        "inherited from",
        "__weakref__",
        "Initialize self",
        "dictionary for instance",
    ):
        assert noise not in text


def test_other_pages(site):
    topic = page(site, "/topic?key=yield")
    assert (pydoc_title(topic), is_pydoc(topic)) == ("KEYWORD yield", True)
    assert pydoc_text(topic).startswith('The "yield" statement\n')
    function = page(site, "/topic?key=repr")
    assert pydoc_text(function).startswith("repr(obj, /)\nReturn the canonical string representation")
    for empty in ("/", "/topics.html", "/keywords.html", "/no_such_module.html"):
        assert pydoc_text(page(site, empty)) == ""


def test_starts_again_when_it_died(site):
    first = site.pid
    os.kill(first, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(first)], timeout=60)
    assert get(site, "/abc.html").status_code == 200
    assert site.pid != first


def test_stops_and_leaves_nothing_behind():
    with PydocSite() as site:
        get(site, "/threading.html")
        process = psutil.Process(site.pid)
        folder = os.path.dirname(process.cwd())
    assert not process.is_running()
    assert not os.path.exists(folder)


PARENT = """
import sys, time, requests
from lmcore.collect.local_site import PydocSite
site = PydocSite().__enter__()
# After showing threading.html pydoc no longer ends by itself.
requests.get(f"http://{site.address()}/threading.html")
print(site.pid, flush=True)
time.sleep(600)
"""


def test_dies_with_us_even_by_kill_nine():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    server = psutil.Process(int(parent.stdout.readline()))
    folder = os.path.dirname(server.cwd())
    assert os.path.isdir(folder)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 60
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.02)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not os.path.exists(folder)


HEAP = (r" at 0x[0-9a-fA-F]+",)


def pydoc_source(**params):
    deny = (r"/(test|idlelib|lib2to3|distutils|encodings)\b", r"/_*(test|xx)", r"/antigravity")
    return WebSource(name="pydoc", serve="pydoc", delay=0, license="PSF-2.0", **{"deny": deny, "blank": HEAP, **params})


def test_crawl_with_a_stable_name(tmp_path):
    params = pydoc_source(max_pages=40)
    metrics = run(tmp_path, params, concurrency=4)
    got = outcomes(tmp_path)
    assert len(got) == 40
    assert got["/"] == got["/topics.html"] == got["/keywords.html"] == "no_text"
    rows = documents(tmp_path)
    assert metrics["records"] == len(rows) > 10
    assert all(row["url"].startswith("http://pydoc.localhost/") for row in rows)
    assert all('"extractor":"pydoc"' in row["meta"] for row in rows)
    assert not any("127.0.0.1:" in row["text"] for row in rows)


def test_server_that_dies_on_the_way(tmp_path):
    killed = []

    def report(done, total, note=""):
        if done in (6, 12) and done not in killed:
            killed.append(done)
            for child in psutil.Process().children(recursive=True):
                if child.status() != psutil.STATUS_ZOMBIE and any("pydoc" in part for part in child.cmdline()):
                    child.kill()

    run(tmp_path / "1", pydoc_source(max_pages=25), concurrency=2, report=report)
    assert killed == [6, 12]
    run(tmp_path / "2", pydoc_source(max_pages=25), concurrency=1)
    assert documents(tmp_path / "1") == documents(tmp_path / "2")


@pytest.mark.slow
def test_two_crawls_of_six_hundred_pages_are_equal(tmp_path):
    params = pydoc_source(max_pages=600)
    first = run(tmp_path / "1", params, concurrency=8)
    run(tmp_path / "2", params, concurrency=1)
    assert first["records"] > 400
    assert first["bytes"] > 2_000_000
    assert documents(tmp_path / "1") == documents(tmp_path / "2")
