import base64
import hashlib
import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser

import pyarrow as pa
import pytest
from report_example import make_view

from lmcore.report import write_report
from lmcore.report.page import render
from lmcore.report.sections import verdict_sentence
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

PAYLOADS = [
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=\"document.title='owned'\">",
    "' onmouseover='document.title=1' x='",
    "</style><style>*{display:none}</style>",
    "</title></pre></svg></table><iframe src=https://example.org></iframe>",
    "<svg onload=document.title='owned'><a href=javascript:alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "<!--", "-->", "]]>", "&lt;script&gt;", "&#60;b&#62;",
    "javascript:alert(1)//",
    "\u202e\u2066txet desrever\x00\x07\x1b[31m",
]  # fmt: skip


class Shape(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        self.tags.append(("/" + tag, {}))
        self.text += " " if tag in ("td", "tr", "h2", "p") else ""

    def handle_data(self, data):
        self.text += data

    @property
    def skeleton(self):
        return [(tag, sorted(attributes)) for tag, attributes in self.tags]


def sections(page):
    return re.findall(r'<section id="(\w+)"', page)


def test_a_whole_run_has_every_part(tmp_path):
    path = tmp_path / "runs" / "r" / "report.html"
    write_report(path, make_view(tmp_path))
    page = path.read_text()
    assert sections(page) == [
        "result", "samples", "training", "collecting", "corpus", "tokenizer", "model", "steps", "releases", "recipe",
        "next",
    ]  # fmt: skip
    text = " ".join(Shape(page).text.split())
    for words in (
        "1.791 bits per byte",
        "interval 1.750 to 1.834",
        "It needs fewer bits than xz -9e (1.906) and gzip -9 (2.413), but does not beat n-gram of 6 bytes (1.774).",
        "The difference from n-gram of 6 bytes lies within the interval and may be chance.",
        "500 of 571 pages kept",
        "exact_duplicate 38",
        "3.69M tokens trained on",
        "2 min 00 s of training",
        "812 MiB peak memory",
        "Times it was resumed 1",
        "resuming at step 412",
        "One step 0.1 s 0.1 s 1.10",
        "Memory 800 MB 852 MB 1.06",
        "Steps 1,000 900 0.90",
        "after “This is”",
        "returns the object that is called",
        "The module returns a list of the methods of the class.",
        "quickstart@2, champion. 1.791 is better than 1.823",
        "1,146,880 parameters",
        "products: 120 GFLOP/s in fp32, 340 in bf16",
        "max_pages: 600",
        "collect-train chat quickstart",
        "2 reused",
        "dropped share 0.12 0.1 failed",
    ):
        assert words in text, words
    assert page.count('class="chart"') == 6
    assert "nan" not in page.lower().replace("finance", "")


@pytest.mark.parametrize(
    ("until", "there"),
    [
        ("collect", ["collecting"]),
        ("curate", ["collecting", "corpus"]),
        ("tokenizer", ["collecting", "corpus", "tokenizer"]),
        ("tokens", ["collecting", "corpus", "tokenizer"]),
        ("train", ["training", "collecting", "corpus", "tokenizer", "model"]),
        ("evaluate", ["result", "samples", "training", "collecting", "corpus", "tokenizer", "model"]),
        ("export", ["result", "samples", "training", "collecting", "corpus", "tokenizer", "model"]),
    ],
)
def test_a_run_that_stopped_early_has_what_it_has(tmp_path, until, there):
    page = render(make_view(tmp_path, until=until))
    assert sections(page) == [*there, "steps", "recipe", "next"]
    shape = Shape(page)
    targets = {attributes["id"] for _, attributes in shape.tags if "id" in attributes}
    links = {attributes["href"].removeprefix("#") for tag, attributes in shape.tags if tag == "a"}
    assert links <= targets


def test_equal_runs_give_equal_bytes(tmp_path):
    view = make_view(tmp_path)
    assert render(view) == render(view)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Shape(render(make_view(tmp_path_factory.mktemp("plain"), text=lambda text: f"zz{text}")))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_from_outside_is_inert_wherever_it_stands(tmp_path, plain, payload):
    page = render(make_view(tmp_path / "hostile", text=lambda text: f"zz{payload}{text}"))
    hostile = Shape(page)
    assert hostile.skeleton == plain.skeleton  # the same tags with the same attributes, whatever the text
    shown = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "�", payload)
    assert hostile.text.count(shown) > 20
    assert "\u202e" not in page
    assert "\x00" not in page


def test_the_page_runs_nothing_and_asks_for_nothing(tmp_path):
    page = render(make_view(tmp_path))
    shape = Shape(page)
    tags = {tag for tag, _ in shape.tags}
    assert not tags & {"script", "iframe", "object", "embed", "img", "form", "base", "video", "audio", "image", "use"}
    for tag, attributes in shape.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            value = attributes.get(name, "#")
            assert value.startswith("#") or (tag == "link" and value == "data:,"), (tag, name, value)
    assert "url(" not in page
    assert "@import" not in page


def test_the_policy_allows_the_style_sheet_by_its_hash_and_nothing_else(tmp_path):
    page = render(make_view(tmp_path))
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(a["content"] for _, a in Shape(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert page.index("Content-Security-Policy") < page.index("<style>")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
@pytest.mark.slow
def test_a_browser_sees_the_same_page_whatever_the_text(tmp_path):
    """A real browser's tree of a hostile report has the tags of the harmless one, and the style sheet is applied."""
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run",
    ]  # fmt: skip
    trees = []
    for name, payload in (("plain", ""), ("hostile", "".join(PAYLOADS))):
        path = tmp_path / f"{name}.html"
        write_report(path, make_view(tmp_path / name, text=lambda text, p=payload: f"zz{p}{text}"))
        command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        trees.append(Shape(done.stdout))
    assert trees[0].skeleton == trees[1].skeleton
    assert len(trees[0].skeleton) > 500
    assert "owned" not in trees[1].text.split("training report")[0]


def test_a_large_run_is_written_quickly_and_stays_small(tmp_path):
    view = make_view(tmp_path, text=lambda text: text + " <b>" + "long & text " * 3000, steps=200_000)
    path = tmp_path / "report.html"
    started = time.process_time()
    write_report(path, view)
    assert time.process_time() - started < 3
    assert path.stat().st_size < 1_000_000


def test_numbers_that_are_not_finite_and_tables_that_are_empty(tmp_path):
    view = make_view(tmp_path, steps=40)
    for name in ("metrics.parquet", "provenance/validation.parquet", "provenance/timings.parquet"):
        table = read_parquet(view.train / name)
        floats = [f.name for f in table.schema if pa.types.is_floating(f.type)]
        for column in floats:
            table = table.set_column(
                table.schema.get_field_index(column), column, pa.array([float("nan")] * table.num_rows)
            )
        write_parquet(view.train / name, table)
    page = render(view)
    assert "nan" not in Shape(page).text.lower()
    for name in ("metrics.parquet", "provenance/validation.parquet", "provenance/samples.parquet"):
        write_parquet(view.train / name, read_parquet(view.train / name).slice(0, 0))
    for split in ("train", "val", "test"):
        shutil.rmtree(view.curate / split)
    assert "0 steps" in Shape(render(view)).text


def test_one_step_of_training_is_a_report(tmp_path):
    assert "1 steps, 4,096 tokens" in Shape(render(make_view(tmp_path, steps=1))).text


def test_provenance_may_be_missing(tmp_path):
    view = make_view(tmp_path)
    shutil.rmtree(view.train / "provenance")
    shutil.rmtree(view.collect[0] / "provenance")
    assert sections(render(view))[2:4] == ["training", "corpus"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("evaluate", "evaluation.json"),
        ("train", "metrics.parquet"),
        ("train", "ledger.json"),
        ("train", "provenance/samples.parquet"),
        ("curate", "stats.json"),
        ("curate", "train/00000.parquet"),
        ("tokenizer", "tokenizer_report.json"),
    ],
)
def test_a_damaged_file_is_named_and_no_report_is_written(tmp_path, folder, name):
    view = make_view(tmp_path)
    file = getattr(view, folder) / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(RunError, match=re.escape(name)):
        write_report(tmp_path / "report.html", view)
    assert not (tmp_path / "report.html").exists()


def test_a_refused_release_is_said_to_be_one(tmp_path):
    view = make_view(tmp_path)
    text = Shape(render(type(view)(**{**vars(view), "release": 3}))).text
    assert "quickstart@3 · not promoted" in text
    assert "worse" in text


def test_lossy_tokenizers_are_marked(tmp_path):
    view = make_view(tmp_path)
    path = view.evaluate / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lossy": True}))
    assert "lossy tokenizer" in Shape(render(view)).text


@pytest.mark.parametrize(
    ("baselines", "sentence"),
    [
        ([], "It was compared with no baseline."),
        ([("gzip", 2.5, True)], "It needs fewer bits than gzip (2.500)."),
        ([("gzip", 1.2, False), ("xz", 1.1, False)], "It does not beat gzip (1.200) and xz (1.100)."),
        (
            [("a", 2.0, True), ("b", 2.1, True), ("c", 2.2, True), ("d", 1.0, False)],
            "It needs fewer bits than a (2.000), b (2.100) and c (2.200), but does not beat d (1.000).",
        ),
        (
            [("gzip", 1.8, True)],
            "It needs fewer bits than gzip (1.800). The difference from gzip lies within the interval and may be"
            " chance.",
        ),
    ],
)
def test_the_verdict_is_one_plain_sentence(baselines, sentence):
    rows = [{"name": name, "bits_per_byte": bits, "beaten": beaten} for name, bits, beaten in baselines]
    assert verdict_sentence(rows, 1.7, 1.9) == sentence
