"""What no single room can see: rules that hold in every file of the house."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("deploy", "flows", "lmcore", "storage", "tasks")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 400

UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
UNSAFE_ATTRIBUTES = {
    ("torch", "load"),
    ("torch", "save"),
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "full_load"),
    ("yaml", "full_load_all"),
    ("yaml", "unsafe_load"),
    ("yaml", "unsafe_load_all"),
    ("os", "system"),
    ("os", "popen"),
}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader"}


def unsafe(tree):
    """(line, what) of everything that could run what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None) or ""
            names = {module, *(alias.name for alias in node.names)}
            for name in names:
                if name.partition(".")[0] in UNSAFE_MODULES:
                    yield node.lineno, f"import {name}"
            for alias in node.names:
                if (module, alias.name) in UNSAFE_ATTRIBUTES:
                    yield node.lineno, f"from {module} import {alias.name}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner, name = node.value.id, node.attr
            safe = owner == "yaml" and name.endswith("Loader") and name in SAFE_LOADERS
            if (owner, name) in UNSAFE_ATTRIBUTES or (owner == "yaml" and name.endswith("Loader") and not safe):
                yield node.lineno, f"{owner}.{name}"
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
                yield node.lineno, f"{node.func.id}()"
            for keyword in node.keywords:
                if keyword.arg in ("allow_pickle", "shell", "trust_remote_code") and not _is_false(keyword.value):
                    yield node.lineno, f"{keyword.arg}="


def _is_false(node):
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pickle", "import pickle"),
        ("import os, pickle as p", "import pickle"),
        ("from pickle import loads", "import pickle"),
        ("def f():\n    import cloudpickle.cloudpickle", "import cloudpickle.cloudpickle"),
        ("import torch\nmodel = torch.load(path)", "torch.load"),
        ("torch.save(model, path)", "torch.save"),
        ("from torch import load as read", "from torch import load"),
        ("load = torch.load", "torch.load"),
        ("eval(text)", "eval()"),
        ("[exec(line) for line in lines]", "exec()"),
        ("yaml.load(text)", "yaml.load"),
        ("yaml.load(text, Loader=yaml.Loader)", "yaml.load"),
        ("class Mine(yaml.FullLoader): pass", "yaml.FullLoader"),
        ("np.load(path, allow_pickle=True)", "allow_pickle="),
        ("subprocess.run(text, shell=True)", "shell="),
        ("os.system(text)", "os.system"),
    ],
)
def test_the_scan_finds_what_it_looks_for(code, found):
    assert found in [what for _, what in unsafe(ast.parse(code))]


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "re.compile(pattern)",
        "yaml.safe_load(text)",
        "class Mine(yaml.SafeLoader): pass",
        "json.load(file)",
        "np.load(path, allow_pickle=False)",
        "'import pickle'  # eval(x)",
    ],
)
def test_the_scan_leaves_what_is_safe(code):
    assert list(unsafe(ast.parse(code))) == []


# MU's document promises a .pt file: one module writes it, one reads it, tensors and plain values only.
PROMISED = {("lmcore/export/mu_layout.py", "torch.save"), ("lmcore/export/mu_reader.py", "torch.load")}


def test_nothing_here_runs_what_a_file_says():
    assert len(FILES) > 60
    found = [
        (str(path.relative_to(ROOT)), what)
        for path in FILES
        for _, what in unsafe(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert sorted(found) == sorted(PROMISED), "and each of these once"


def test_the_promised_file_is_read_with_weights_only():
    tree = ast.parse((ROOT / "lmcore" / "export" / "mu_reader.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    assert [ast.unparse(word) for call in calls for word in call.keywords if word.arg == "weights_only"] == [
        "weights_only=True"
    ]


def test_every_file_is_short_enough_to_read():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in FILES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert long == {}, f"at most {MAX_LINES} lines a file: one idea each"


def test_every_file_says_what_it_is():
    silent = [str(path.relative_to(ROOT)) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_the_programs_that_pages_name_are_there():
    pages = [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "benchmarks" / "RESULTS.md", ROOT / "Makefile"]
    for page in pages:
        for before, name in re.findall(r"(\S*)\b((?:benchmarks|tools)/\w+\.py)", page.read_text(encoding="utf-8")):
            # `git show COMMIT:FILE` is how to read one that is no longer here
            assert before.endswith(":") or (ROOT / name).is_file(), f"{page.name} names {name}"


def fresh(code):
    """What a fresh interpreter prints that runs `code`."""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["schema"], ["show", "quickstart"], ["status", "--store", "/nowhere/at/all"]],
    ids=" ".join,
)
def test_commands_that_only_look_load_neither_torch_nor_prefect(arguments):
    code = (
        "import sys\n"
        f"sys.argv = ['collect-train', *{arguments!r}]\n"
        "from flows.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'prefect', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    assert fresh(code).splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize(
    "module", ["storage.store", "storage.catalog", "storage.registry", "lmcore.recipe", "flows.plan"]
)
def test_rooms_that_need_no_torch_load_none(module):
    code = f"import sys, {module}\nprint(sorted({{'torch', 'prefect'}} & set(sys.modules)))"
    assert fresh(code).strip() == "[]"


@pytest.mark.parametrize(
    ("module", "not_loaded"),
    [
        ("lmcore.train.params", {"tokenizers", "tiktoken", "torch", "numpy", "pyarrow", "peft"}),
        ("lmcore.tokens.params", {"tokenizers", "tiktoken", "torch", "numpy", "pyarrow"}),
        ("lmcore.tokenizer.params", {"tokenizers", "tiktoken", "torch", "pyarrow"}),
        ("lmcore.models.lora", {"torch", "peft"}),
        ("lmcore.recipe", {"tokenizers", "tiktoken", "torch", "peft"}),
    ],
)
def test_settings_are_read_without_the_libraries_that_they_are_for(module, not_loaded):
    assert fresh(f"import sys, {module}\nprint(sorted({not_loaded!r} & set(sys.modules)))").strip() == "[]"
