"""docs/recipes.md against the code: its tables are today's, its examples load, its errors are what is printed."""

import importlib.util
import re
from pathlib import Path

import pytest

from lmcore.collect.kinds import NAMES
from lmcore.models.families import FAMILIES
from lmcore.recipe import Recipe, load_recipe
from storage.errors import UserError

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def tool():
    """tools/recipe_docs.py as a module."""
    spec = importlib.util.spec_from_file_location("recipe_docs", ROOT / "tools" / "recipe_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_up_to_date(tool):
    assert tool.page(TEXT) == TEXT, "run `python tools/recipe_docs.py --write`"


def test_every_section_has_a_table(tool):
    sections = {name for name, field in Recipe.model_fields.items() if name == "sources" or tool.model_of(field)}
    tables = re.findall(r"<!-- options: (\w+) -->\n\| option", TEXT)
    assert sorted(tables) == sorted([*sections, "recipe", *NAMES])
    families = re.findall(r"<!-- options: model\.(\w+) -->\n\| option", TEXT)
    assert ["decoder", *families] == list(FAMILIES)


def test_a_table_says_type_range_and_default(tool):
    rows = {row.split(" | ")[0]: row for row in tool.table("train").splitlines()}
    assert rows["| `steps`"].startswith("| `steps` | integer ≥ 1 or `null` | `null` | Budget in optimizer steps.")
    assert rows["| `warmup`"].startswith("| `warmup` | number 0 to 1 | `0.02` |")
    assert "| `sampling.top_p` | number > 0 and ≤ 1 | `0.95` |" in tool.table("evaluate"), "the default of its section"
    assert "| `name` | text | required |" in tool.table("recipe")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_examples_load(tmp_path, number):
    (tmp_path / "x.yaml").write_text(EXAMPLES[number], encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "x.yaml"))
    assert recipe.name == ("smallest", "herbs", "deeper")[number]
    if recipe.name == "herbs":
        assert recipe.sources[0].base == str(tmp_path)
        assert (recipe.train.lr, recipe.sources[1].max_pages) == (0.004, 2000)


def test_the_example_of_a_deeper_option_loads(tmp_path):
    (tmp_path / "x.yaml").write_text(f"extends: quickstart\n{EXAMPLES[3]}", encoding="utf-8")
    assert load_recipe(str(tmp_path / "x.yaml")).curate.split.val == 0.1


def test_the_recipe_in_the_readme_loads(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example, encoding="utf-8")
    assert load_recipe(str(tmp_path / "mine.yaml")).name == "mine"


def test_the_overrides_on_the_page_are_taken(tmp_path):
    (tmp_path / "herbs.yaml").write_text(EXAMPLES[1], encoding="utf-8")
    lines = re.findall(r"^collect-train run (\S+) (--set .*?)(?:  #.*)?$", TEXT, re.MULTILINE)
    assert len(lines) == 3
    for name, options in lines:
        overrides = [part.strip().strip("'") for part in options.split("--set ")[1:]]
        assert load_recipe(name if name == "quickstart" else str(tmp_path / name), overrides)


def test_the_errors_on_the_page_are_what_is_printed():
    told = re.findall(r"^\$ collect-train params (\S+) --set (\S+)\nerror: (.*)\n  to mend: (.*)$", TEXT, re.MULTILINE)
    assert len(told) == 3
    for name, override, what, mend in told:
        with pytest.raises(UserError) as error:
            load_recipe(name, [override])
        assert (error.value.what, error.value.mend) == (what, mend)


def test_its_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
