import json
from pathlib import Path

import pytest
from recipes_made import FILES, MINIMAL

from lmcore.recipe import load_recipe
from storage.errors import UserError


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name: a\nname: b", "line 2, column 1: key 'name' stands twice"),
        ("train: {steps: 1, lr: 1, steps: 2}", "line 1, column 26: key 'steps' stands twice"),
        ("name: [unclosed", "line 1, column 16"),
        ("name: a: b", "line 1, column 8: mapping values are not allowed here"),
        ("\tname: a", "line 1, column 1"),
        ("name: \x01", "special characters are not allowed"),
        ("? [1, 2]\n: 3", "a key must be text"),
        ("a: 1\n---\na: 2", "another document"),
        ("!!python/object/apply:os.system ['touch owned']", "could not determine a constructor"),
        ("name: !!python/object/new:type [x]", "could not determine a constructor"),
        ("name: !!python/name:os.system", "could not determine a constructor"),
        ("name: !custom x", "could not determine a constructor"),
        ("name: !!binary aGk=", "could not determine a constructor"),
        ("name: !!timestamp 2026", "could not determine a constructor"),
        ("name: !!int x", "invalid literal"),
        ("a: &a {b: *a}", "aliases stand for more than"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: " + "9" * 5000, "digits"),
        ('name: "\\ud800"', "surrogates"),
        ("just text", "does not hold a recipe"),
        ("- name: a", "does not hold a recipe"),
        ("", "does not hold a recipe"),
        ("extends: [a]", "extends must be the name"),
    ],
)
def test_a_file_that_is_no_recipe_is_told_with_its_path(write, text, what, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = write("bad.yaml", text)
    with pytest.raises(UserError) as error:
        load_recipe(path)
    assert path in error.value.what
    assert what in error.value.what
    assert error.value.exit_code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yaml"], "nothing was executed"


def test_a_few_bytes_of_aliases_do_not_fill_the_memory(write):
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(UserError, match="aliases stand for more than"):
        load_recipe(write("laughs.yaml", "\n".join(rows)))


@pytest.mark.parametrize("name", ["quickstrat", "quick", "x" * 5000, "~nobody-here/x.yaml", "a\0b", "", ".", "/"])
def test_a_recipe_that_is_not_there_is_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no recipe") as error:
        load_recipe(name)
    assert "packaged recipes: " in error.value.mend
    if name.startswith("quick"):
        assert "did you mean quickstart?" in error.value.mend


def test_a_file_that_is_not_text_is_told(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match=r"cannot read the recipe .*x\.yaml"):
        load_recipe(str(tmp_path / "x.yaml"))


# extends


def test_extends_merges_sections_and_replaces_lists(write):
    write(
        "base.yaml", MINIMAL | {"model": {"n_layers": 2, "context": 64}, "train": {"steps": 5, "prompts": ["a", "b"]}}
    )
    path = write("mine.yaml", {"extends": "base.yaml", "model": {"n_layers": 3}, "train": {"prompts": ["c"]}})
    recipe = load_recipe(path)
    assert (recipe.name, recipe.model.n_layers, recipe.model.context) == ("mine", 3, 64)
    assert (recipe.train.steps, recipe.train.prompts) == (5, ("c",))
    assert load_recipe(path, ["model.n_layers=4"]).model.n_layers == 4, "--set is the strongest"


def test_extends_may_be_packaged_relative_absolute_or_a_chain(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    packaged = load_recipe(write("a.yaml", "extends: quickstart\nname: mine"))
    assert packaged.name == "mine"
    assert packaged.sources == load_recipe("quickstart").sources
    write("deep/base.yaml", MINIMAL | {"description": "base"})
    write("deep/middle.yaml", {"extends": "base.yaml", "timezone": "Asia/Tokyo"})
    last = write("last.yaml", {"extends": "deep/middle.yaml", "name": "last"})
    recipe = load_recipe(last)
    assert (recipe.name, recipe.timezone, recipe.description) == ("last", "Asia/Tokyo", "base")
    absolute = write("other.yaml", {"extends": str(tmp_path / "deep/base.yaml")})
    assert load_recipe(absolute).description == "base"


def test_a_budget_replaces_the_one_of_the_base(write):
    write("base.yaml", MINIMAL)
    for train in ({"minutes": 3}, {"minutes": 3, "steps": None}):
        recipe = load_recipe(write("a.yaml", {"extends": "base.yaml", "train": train}))
        assert (recipe.train.minutes, recipe.train.steps) == (3.0, None)
    with pytest.raises(UserError, match="2 budgets"):
        load_recipe(write("b.yaml", {"extends": "base.yaml", "train": {"minutes": 3, "steps": 5}}))


def test_a_circle_of_extends_is_broken(write):
    write("d/a.yaml", {"extends": "../d/b.yaml"})
    path = write("d/b.yaml", {"extends": "../d/a.yaml"})
    with pytest.raises(UserError, match=r"extends itself: b\.yaml > a\.yaml > b\.yaml"):
        load_recipe(path)
    with pytest.raises(UserError, match="extends itself"):
        load_recipe(write("self.yaml", {"extends": "self.yaml"}))


def test_a_long_chain_of_extends_ends(write):
    write("r0.yaml", MINIMAL)
    for number in range(1, 20):
        write(f"r{number}.yaml", {"extends": f"r{number - 1}.yaml"})
    assert load_recipe(write("short.yaml", {"extends": "r6.yaml"})).name == "mine"
    with pytest.raises(UserError, match="chain of 8"):
        load_recipe(write("long.yaml", {"extends": "r19.yaml"}))


def test_an_unknown_base_is_told(write):
    with pytest.raises(UserError, match=r"there is no recipe 'quickstrat'") as error:
        load_recipe(write("a.yaml", {"extends": "quickstrat"}))
    assert "did you mean quickstart?" in error.value.mend


# --set


def test_set_reaches_everything(write):
    path = write("a.yaml", MINIMAL | {"sources": [*MINIMAL["sources"], FILES]})
    overrides = [
        "description='one: two = three'",
        "train.prompts=[x, y]",
        "sources.0.max_pages=7",
        "sources.1.paths=[a.txt, b.txt]",
        "sources.1.paths.1=c.txt",
        "train.prompts.0=Once",
        "curate.gates.min_documents=1",
        "curate.rules.limits={min_words: 5}",
        "model.tie_embeddings=false",
        "train.grad_clip=null",
        "runtime.train.threads=2",
    ]
    recipe = load_recipe(path, overrides)
    assert recipe.description == "one: two = three"
    assert recipe.sources[0].max_pages == 7
    assert recipe.sources[1].paths == ("a.txt", "c.txt")
    assert recipe.train.prompts == ("Once", "y")
    assert recipe.curate.gates.min_documents == 1
    assert recipe.curate.rules.limits == {"min_words": 5.0}
    assert (recipe.model.tie_embeddings, recipe.train.grad_clip, recipe.runtime.train.threads) == (False, None, 2)


@pytest.mark.parametrize("budget", ["tokens=1000", "epochs=1.5", "minutes=0.5", "steps=3"])
def test_a_new_budget_replaces_the_old_one(write, budget):
    name, _, value = budget.partition("=")
    recipe = load_recipe(write("a.yaml", MINIMAL), [f"train.{budget}"])
    given = {n: getattr(recipe.train, n) for n in ("steps", "tokens", "epochs", "minutes")}
    assert {n: v for n, v in given.items() if v is not None} == {name: float(value)}


def test_the_last_of_two_sets_wins(write):
    recipe = load_recipe(write("a.yaml", MINIMAL), ["train.minutes=1", "train.lr=1.0", "train.steps=4", "train.lr=2.0"])
    assert (recipe.train.steps, recipe.train.minutes, recipe.train.lr) == (4, None, 2.0)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("train.steps", "not of the form a.b=value"),
        ("=3", "not of the form a.b=value"),
        ("", "not of the form a.b=value"),
        ("train.steps=[1", "--set train.steps: '[1' is not valid YAML"),
        ("train.steps=x", "train.steps"),
        ("train.steps=", "train: no budget"),
        ("train.stpes=3", "unknown key train.stpes"),
        ("name.first=x", "name is a value, not a section"),
        ("train.prompts.0.x=1", "train.prompts.0 is a value, not a section"),
        ("train.steps.x.y=1", "train.steps is a value, not a section"),
        ("sources.1.name=x", "'1' is no index of a list of 1"),
        ("sources.-1.name=x", "'-1' is no index of a list of 1"),
        ("sources.docs.name=x", "'docs' is no index of a list of 1"),
        ("sources.0.seeds.5=x", "'5' is no index of a list of 1"),
        (".=1", "unknown key"),
        ("extends=quickstart", "--set cannot change extends"),
        ("name=!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_a_wrong_set_is_told(write, override, what):
    with pytest.raises(UserError) as error:
        load_recipe(write("a.yaml", MINIMAL | {"train": {"steps": 3, "prompts": ["a"]}}), [override])
    assert what in error.value.what


# paths of file sources


def test_files_start_from_the_folder_of_the_recipe_that_names_them(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    write("shelf/base.yaml", MINIMAL | {"sources": [FILES]})
    recipe = load_recipe(write("mine.yaml", {"extends": "shelf/base.yaml"}))
    assert recipe.sources[0].base == str(tmp_path / "shelf")
    for base, meant in (("texts", tmp_path / "texts"), ("/data", Path("/data")), ("~/t", Path("~/t").expanduser())):
        path = write("mine.yaml", MINIMAL | {"sources": [FILES | {"base": base}]})
        assert load_recipe(path).sources[0].base == str(meant)


def test_files_given_by_set_start_from_here(write, tmp_path, monkeypatch):
    path = write("deep/mine.yaml", MINIMAL)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    recipe = load_recipe(path, ["sources=[{name: notes, kind: files, paths: [a.txt]}]"])
    assert recipe.sources[0].base == str(tmp_path / "here"), "two folders never share a key"
    assert (
        load_recipe(path, [f"sources=[{json.dumps(FILES)}]", "sources.0.base=in"]).sources[0].base.endswith("here/in")
    )
    with pytest.raises(UserError, match="nobody-here"):
        load_recipe(write("b.yaml", MINIMAL | {"sources": [FILES | {"base": "~nobody-here/x"}]}))
