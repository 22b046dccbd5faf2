import contextlib
import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmcore.recipe import Recipe, load_recipe, packaged_recipes, parse_recipe, recipe_schema
from lmcore.strict_yaml import load_yaml
from storage.errors import UserError

ROOT = Path(__file__).parents[2]

MINIMAL = {
    "name": "mine",
    "sources": [{"name": "docs", "kind": "web", "seeds": ["http://example.org/"]}],
    "train": {"steps": 10},
}
FILES = {"name": "notes", "kind": "files", "paths": ["*.txt"]}


@pytest.fixture
def write(tmp_path):
    """write(name, values): a recipe file of these values, or of this text; gives its path as text."""

    def make(name, values):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
        return str(path)

    return make


def changed(place, value):
    """MINIMAL with the value at `place` (a.0.b) changed."""
    values = copy.deepcopy(MINIMAL)
    *way, last = place.split(".")
    target = values
    for key in way:
        target = target[int(key)] if key.isdecimal() else target.setdefault(key, {})
    target[int(last) if last.isdecimal() else last] = value
    return values


def refused(values):
    """The error for these values."""
    with pytest.raises(UserError) as error:
        parse_recipe(values, "mine.yaml")
    assert error.value.what.startswith("mine.yaml: "), "says which file"
    assert "\n" not in error.value.what + error.value.mend
    assert error.value.mend
    return error.value


# what is read


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_loads(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    again = parse_recipe(recipe.model_dump(mode="json"), "its own dump")
    assert again == recipe, "a plan holds the dump and gives the same recipe back"
    assert recipe.training.model == recipe.model
    assert recipe.training.seed == recipe.train.seed


def test_what_is_left_out_has_its_default():
    recipe = parse_recipe(MINIMAL, "x")
    assert (recipe.timezone, recipe.description) == ("UTC", "")
    assert recipe.curate == Recipe.model_fields["curate"].get_default(call_default_factory=True)
    assert recipe.runtime.train.threads == 0


def test_numbers_may_be_written_as_people_write_them(write):
    text = (
        yaml.safe_dump(MINIMAL) + "model: {norm_eps: 1e-6}\ntokens: {shard_tokens: 1_000_000}\nrelease: {min_gain: 0}"
    )
    recipe = load_recipe(write("a.yaml", text), ["train.lr=3e-3", "train.muon_lr=2"])
    assert (recipe.model.norm_eps, recipe.tokens.shard_tokens, recipe.release.min_gain) == (1e-6, 1_000_000, 0.0)
    assert (recipe.train.lr, recipe.train.muon_lr) == (0.003, 2.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("0x1F", "0x1F"),
        ("-3", -3),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
        ("{x: &x {a: 1}, y: {<<: *x, b: 2}}", {"x": {"a": 1}, "y": {"a": 1, "b": 2}}),
        ("'é\\n'", "é\\n"),
    ],
)
def test_yaml_is_what_it_looks_like(text, value):
    assert load_yaml(text, "x") == value
    assert type(load_yaml(text, "x")) is type(value)


def test_no_two_parts_of_a_recipe_are_one(write):
    text = yaml.safe_dump(MINIMAL) + "runtime:\n  tokens: &w {workers: 1}\n  tokenizer: *w\n"
    recipe = load_recipe(write("a.yaml", text), ["runtime.tokens.workers=2"])
    assert (recipe.runtime.tokens.workers, recipe.runtime.tokenizer.workers) == (2, 1)


# what is refused, with the place and the way out


@pytest.mark.parametrize(
    ("place", "mend"),
    [
        ("modle", "did you mean model?"),
        ("source", "did you mean sources?"),
        ("n_layers", "it belongs at model.n_layers"),
        ("lr", "it belongs at train.lr"),
        ("batch", "it belongs at train.batch"),
        ("min_gain", "it belongs at release.min_gain"),
        ("zzz", "valid here: curate, description, evaluate, export, extends, model, name, release"),
        ("train.seeds", "did you mean seed?"),
        ("train.batch_size", "did you mean batch?"),
        ("train.context", "it belongs at model.context"),
        ("train.vocab_size", "it belongs at tokenizer.vocab_size"),
        ("train.threads", "it belongs at runtime.train.threads"),
        ("train.device", "it belongs at runtime.train.device"),
        ("evaluate.device", "it belongs at runtime.evaluate.device"),
        ("tokens.workers", "it belongs at runtime.tokens.workers"),
        ("runtime.workers", "it belongs at runtime.tokenizer.workers or runtime.tokens.workers"),
        ("train.learning_rate", "valid here: attention, batch, betas"),
        ("model.vocab_size", "it belongs at tokenizer.vocab_size"),
        ("model.layers", "did you mean n_layers?"),
        ("model.dropuot", "did you mean dropout?"),
        ("curate.val", "it belongs at curate.split.val"),
        ("curate.gates.min_document", "did you mean min_documents?"),
        ("curate.split.tests", "did you mean test?"),
        ("evaluate.sampling.topk", "did you mean top_k?"),
        ("runtime.train.batch", "it belongs at train.batch"),
        ("sources.0.max_page", "did you mean max_pages?"),
        ("sources.0.seed", "did you mean seeds?"),
        ("sources.0.paths", "it belongs at sources.paths"),
    ],
)
def test_an_unknown_key_is_led_to_the_right_place(place, mend):
    error = refused(changed(place, 1))
    assert error.what == f"mine.yaml: unknown key {place}"
    assert error.mend.startswith(mend)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("train.batch", "sixteen", "train.batch"),
        ("train.batch", "16", "train.batch"),
        ("train.batch", True, "train.batch"),
        ("train.batch", 3.5, "train.batch"),
        ("train.batch", None, "train.batch"),
        ("train.batch", [1], "train.batch"),
        ("train.batch", 0, "train.batch"),
        ("train.lr", "1e-3", "train.lr"),
        ("train.lr", -1, "train.lr"),
        ("train.lr", float("nan"), "train.lr"),
        ("train.lr", float("inf"), "train.lr"),
        ("train.schedule", "cos", "train.schedule"),
        ("train.prompts", "The", "train.prompts"),
        ("train.prompts", ["The", 3], "train.prompts.1"),
        ("train.betas", [0.9], "train.betas"),
        ("train", None, "train"),
        ("model", 3, "model"),
        ("model.qk_norm", "yes", "model.qk_norm"),
        ("model.n_heads", 3, "model: d_model 128 is not a multiple of n_heads 3"),
        ("name", None, "name"),
        ("name", "Not a name", "name"),
        ("name", "a\n", "name"),
        ("sources", [], "sources"),
        ("sources", {}, "sources"),
        ("sources.0", "web", "sources.0"),
        ("sources.0", {"name": "x"}, "sources.0 needs a kind"),
        ("sources.0.kind", "webb", "sources.0 needs a kind"),
        ("sources.0.seeds", "http://x/", "sources.0.seeds"),
        ("sources.0.seeds", ["ftp://x/"], "sources.0.seeds: 'ftp://x/' is not an http"),
        ("sources.0.deny", ["("], "sources.0.deny: '(' is not a regular expression"),
        ("sources.0.lang", False, "sources.0.lang"),
        ("curate.rules", {"limits": {"min_wrods": 1}}, "curate.rules.limits: unknown rule 'min_wrods'"),
        ("curate.split", {"val": 0.5, "test": 0.5}, "curate.split: val and test together"),
        ("evaluate.splits", ["val", "val"], "evaluate.splits: a name stands twice"),
        ("timezone", "Europe/Budapesd", "timezone: 'Europe/Budapesd' is no time zone"),
        ("timezone", "Europe", "timezone: 'Europe' is no time zone"),
        ("timezone", "../../etc/passwd", "timezone"),
        ("timezone", "x" * 400, "timezone"),
        ("timezone", "", "timezone"),
        ("train", {"steps": 1, "minutes": 2}, "train: 2 budgets, steps and minutes"),
        ("train", {}, "train: no budget"),
        ("train", {"steps": 1, "warmup": 0.9}, "train: warmup 0.9 and decay_share 0.6"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(place, value, told):
    error = refused(changed(place, value))
    assert error.what.startswith(f"mine.yaml: {told}")


def test_what_is_missing_is_told():
    for key in MINIMAL:
        values = {name: value for name, value in MINIMAL.items() if name != key}
        assert refused(values).what == f"mine.yaml: {key} is missing"
    error = refused(MINIMAL | {"sources": [{"kind": "files", "name": "x"}]})
    assert error.what == "mine.yaml: sources.0.paths is missing"
    assert "globs" in error.mend


def test_the_kinds_of_sources_are_listed():
    error = refused(MINIMAL | {"sources": [{"kind": "rss", "name": "x"}]})
    assert error.mend == "write kind: one of web, files"


def test_two_sources_need_two_names():
    twice = [MINIMAL["sources"][0], FILES | {"name": "docs"}]
    assert refused(MINIMAL | {"sources": twice}).what == "mine.yaml: sources: two sources are called docs"
    assert len(parse_recipe(MINIMAL | {"sources": [MINIMAL["sources"][0], FILES]}, "x").sources) == 2


def test_a_time_zone_is_one_of_the_world_s():
    assert parse_recipe(MINIMAL | {"timezone": "Europe/Budapest"}, "x").timezone == "Europe/Budapest"


# files


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


def test_a_budget_of_the_base_is_put_away_with_null(write):
    write("base.yaml", MINIMAL)
    with pytest.raises(UserError, match="2 budgets"):
        load_recipe(write("a.yaml", {"extends": "base.yaml", "train": {"minutes": 3}}))
    recipe = load_recipe(write("b.yaml", {"extends": "base.yaml", "train": {"minutes": 3, "steps": None}}))
    assert (recipe.train.minutes, recipe.train.steps) == (3.0, None)


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


# the schema


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipes_fit_the_schema(name):
    values = yaml.safe_load(packaged_recipes()[name].read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(recipe_schema())
    jsonschema.Draft202012Validator(recipe_schema()).validate(values)


def test_the_schema_refuses_what_the_reader_refuses():
    validator = jsonschema.Draft202012Validator(recipe_schema())
    assert validator.is_valid(MINIMAL)
    assert validator.is_valid({"extends": "quickstart"})
    for place, value in [
        ("modle", 1),
        ("train.batch", "16"),
        ("train.seeds", 1),
        ("sources.0.kind", "webb"),
        ("extends", 3),
    ]:
        assert not validator.is_valid(changed(place, value)), place


def test_the_schema_in_the_documentation_is_today_s():
    written = json.loads((ROOT / "docs" / "recipe.schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(recipe_schema())), "run `make schema`"


# anything at all

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["quickstart"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = [*Recipe.model_fields, "extends"]


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(st.characters(codec="utf-8"), max_size=60)
    | st.from_regex(r"([a-z&*!?:|>\-\[\]{}, \n\"'#%@`0-9<.]){0,40}")
)
@example("!!int ''")
@example("&a !!map *a")
@example("extends: ~x/y")
def test_any_text_is_a_recipe_or_one_clear_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode())
    with contextlib.suppress(UserError):
        load_recipe(str(path))


@settings(max_examples=150, deadline=None)
@given(values=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), VALUES, max_size=6), known=st.booleans())
def test_any_values_are_a_recipe_or_one_clear_error(values, known):
    values = {**MINIMAL, **values} if known else values
    recipe = None
    with contextlib.suppress(UserError):
        recipe = parse_recipe(values, "any")
    if recipe is not None:
        plan = json.loads(json.dumps(recipe.model_dump(mode="json")))
        assert parse_recipe(plan, "its plan") == recipe


@settings(max_examples=150, deadline=None)
@given(
    place=st.lists(st.sampled_from([*KEYS, "0", "lr", "steps", "seeds", "name", "x", ""]), min_size=1, max_size=4),
    value=st.text(st.characters(codec="utf-8"), max_size=12) | VALUES.map(json.dumps),
)
def test_any_set_is_taken_or_one_clear_error(tmp_path_factory, place, value):
    path = tmp_path_factory.getbasetemp() / "set.yaml"
    path.write_text(yaml.safe_dump(MINIMAL), encoding="utf-8")
    with contextlib.suppress(UserError):
        load_recipe(str(path), [f"{'.'.join(place)}={value}"])
