"""The bytes of a stage under one version of it: they change only together with the version, and on purpose."""

import importlib.metadata
import re
import zlib
from pathlib import Path

import pytest
from three_stages import curate_folders

from lmcore.collect.editions import write_references
from lmcore.curate.params import CurateParams
from lmcore.documents import CURATED, DOCUMENT, make_table, record_id
from lmcore.progress import silent
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from storage.atomic import write_json
from storage.manifest import list_files
from storage.parquet import write_parquet

ROOT = Path(__file__).parents[2]
PINNED = ("pyarrow", "tiktoken", "tokenizers", "numpy", "xxhash")  # what makes the bytes beside our own code
ZLIB = "1.2.13"  # Python's own: its compressed sizes are a signal of measure

TEXTS = (
    "The store is a folder of finished artifacts. Each has a name that says how it was made, and nothing that is not "
    "finished has a name at all. Whoever looks for a text finds it, or finds the reason why it is gone.\n\nA run that "
    "was interrupted continues where it stopped; what was done is never done again.",
    "A tokenizer cuts text into pieces that occur often. Short words become one piece, long ones become several. "
    "No letter is lost: every byte that no piece covers is a piece itself, so that any text can be written down and "
    "read back exactly as it was.",
    "Árvíztűrő tükörfúrógép. A kiskutya ugat, a macska nyávog, a ló pedig nyerít az udvaron, amíg a gazda haza nem ér "
    "este a földekről, és be nem zárja mögöttük a kaput, hogy a szél ki ne nyissa megint.",
    "ሰላም እንዴት ነህ? ዛሬ ጠዋት ወደ ገበያ ሄጄ ቡና እና ዳቦ ገዛሁ። ከዚያም ወደ ቤት ተመልሼ ከጓደኞቼ ጋር ተጫወትኩ።",
    'def area(width, height):\n    """Area of a rectangle, in square metres."""\n    if width < 0 or height < 0:\n'
    '        raise ValueError("a side is at least 0")\n    return width * height\n\n\nprint(area(2, 3.5))\n',
    "The store is a folder of finished artifacts. Each has a name that says how it was made, and nothing that is not "
    "finished has a name at all. Whoever looks for a text finds it, or finds the reason why it is gone.\n\nA run that "
    "was interrupted continues where it stopped; what was done is never done again.",
    "buy now buy now buy now buy now buy now buy now buy now buy now buy now buy now buy now buy now buy now buy now",
    "\u200bToo short.\r\n",
)
GOLDEN = {
    ("measure", 2): "34f93ef8d3463d7616d319245e99db3cc51ccc5a6c5269b17c96edf7d59239f2",
    ("compare", 1): "96a0c284f19e17c9eaf83efbdf75262d917a6e1a18fdb14eebb4514cd2dcefc7",
    ("curate", 4): "98195a9fd149536de38202e6d93b9d3bf7d2ba2f2c5adee0e6792688df9dabc6",
    ("tokenizer", 2): "43756fab17345bc62c05cf33fc1ac5366d750b1c30974254ab9f00adf190590d",
    ("tokens", 2): "09403dcbc091c64d3e6de0d0a740a6b65d7c762218decc52365cc97da118e0c9",
}


@pytest.fixture(scope="module", autouse=True)
def _pinned_versions():
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    for name in PINNED:
        if (installed := importlib.metadata.version(name)) != pins[name]:
            pytest.skip(f"{name} is {installed}; the bytes were noted with {pins[name]} of constraints.txt")


def check(stage, work):
    """Compare the content digest of what a stage left with the one noted for its version."""
    source = (ROOT / "tasks" / f"{stage}.py").read_text(encoding="utf-8")
    version = int(re.search(rf'@step\("{stage}", version=(\d+)', source)[1])
    digest = list_files(work / "out")[0].digest
    assert digest == GOLDEN.get((stage, version)), (
        f"stage {stage} leaves other bytes than before under the same version {version}. If that is on purpose, raise "
        f"the version in tasks/{stage}.py, so that nobody's old artifacts pass for new ones, and note the new digest "
        "here. If not, find out why."
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the three stages of curation leave, in `measure/00000-0`, `compare` and `curate`."""
    if zlib.ZLIB_RUNTIME_VERSION != ZLIB:
        pytest.skip(f"zlib is {zlib.ZLIB_RUNTIME_VERSION}; the bytes were noted with {ZLIB}")
    work = tmp_path_factory.mktemp("made")
    rows = [
        {
            "record_id": record_id("golden", f"http://site/{number}.html", text),
            "source": "golden",
            "url": f"http://site/{number}.html",
            "title": f"Page {number}",
            "text": text,
            "kind": "code" if text.startswith("def") else "prose",
            "lang": "en",
            "license": "CC0-1.0",
            "license_source": "recipe",
            "edition": "1",
            "synthetic": False,
            "page_of_origin": f"http://site/{number}.html",
            "parent_record": None,
            "tags": [],
            "turns": None,
            "meta": "{}",
        }
        for number, text in enumerate(TEXTS)
    ]
    folder = work / "collected"
    write_parquet(folder / "documents" / "00000.parquet", make_table(rows, DOCUMENT))
    write_references(folder / "references.parquet", {})
    write_json(folder / "edition.json", {"edition": "1", "source": "golden", "parent": None, "depth": 1})
    params = CurateParams.model_validate(
        {
            "split": {"val": 0.2, "test": 0.2},
            "gates": {"min_documents": 1, "min_train_bytes": 1, "min_val_documents": 0, "min_test_documents": 0},
        }
    )
    metrics = curate_folders(work, [folder], params=params).metrics
    assert metrics["duplicates"] == 1
    assert 0 < metrics["kept_documents"] < len(TEXTS) - 1
    return work


@pytest.mark.parametrize("stage", ["measure", "compare", "curate"])
def test_curation_leaves_the_bytes_of_its_versions(made, stage):
    check(stage, made / "measure" / "00000-0" if stage == "measure" else made / stage)


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """A curated folder that no curation made, so that each stage is judged by itself."""
    folder = tmp_path_factory.mktemp("curated")
    for split, texts in {"train": TEXTS[:5] * 3, "val": TEXTS[1:3], "test": TEXTS[3:5]}.items():
        names = [record_id(split, str(number), text) for number, text in enumerate(texts)]
        rows = [
            {
                "record_id": name,
                "text_id": name,
                "text": text,
                "n_bytes": len(text.encode()),
                "source": "golden",
                "url": f"file:{split}/{number}",
                "title": "",
                "kind": "prose",
                "lang": "und",
                "license": "CC0-1.0",
                "synthetic": False,
                "page_of_origin": f"file:{split}/{number}",
                "turns": None,
                "quality": 50.0,
                "complexity": 50.0,
                "cluster_id": name,
                "cluster_size": 1,
            }
            for number, (name, text) in enumerate(zip(names, texts, strict=True))
        ]
        table = make_table(sorted(rows, key=lambda row: row["record_id"]), CURATED)
        write_parquet(folder / split / "00000.parquet", table)
    return folder


@pytest.fixture(scope="module")
def tokenizer(curated, tmp_path_factory):
    """The work folder of a tokenizer of 400 tokens."""
    work = tmp_path_factory.mktemp("tokenizer")
    params = TokenizerParams(vocab_size=400)
    train_tokenizer(work, curated, params=params, runtime=TokenizerRuntime(workers=1), report=silent)
    return work


def test_tokenizer_leaves_the_bytes_of_its_version(tokenizer):
    check("tokenizer", tokenizer)


def test_tokens_leaves_the_bytes_of_its_version(curated, tokenizer, tmp_path):
    params = TokensParams(shard_tokens=2048)
    metrics = make_tokens(
        tmp_path, curated, tokenizer / "out", params=params, runtime=TokensRuntime(workers=1), report=silent
    )
    assert metrics["shards"] > 3, "more than one shard, so that the cutting is in the bytes too"
    check("tokens", tmp_path)
