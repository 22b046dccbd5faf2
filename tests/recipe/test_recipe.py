import contextlib
import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recipes_made import FILES, MINIMAL

from lmcore.collect.kinds import NAMES
from lmcore.recipe import Recipe, load_recipe, packaged_recipes, parse_recipe, recipe_schema
from lmcore.strict_yaml import load_yaml
from storage.errors import UserError

ROOT = Path(__file__).parents[2]


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


def test_a_trusted_source_is_one_of_the_recipe():
    values = MINIMAL | {"curate": {"duplicates": {"trusted": [MINIMAL["sources"][0]["name"]]}}}
    assert parse_recipe(values, "x").curate.duplicates.trusted == (MINIMAL["sources"][0]["name"],)
    with pytest.raises(UserError, match=r"x: curate\.duplicates\.trusted names 'nobody', and there is no such") as told:
        parse_recipe(MINIMAL | {"curate": {"duplicates": {"trusted": ["nobody"]}}}, "x")
    assert "the sources are " in told.value.mend


@pytest.mark.parametrize(
    ("code", "mend"), [("hun", "did you mean hu?"), ("hu-Latt", "did you mean hu-Latn?"), ("xyz", "ISO 639")]
)
def test_limits_are_for_languages_that_there_are(code, mend):
    error = refused(changed("curate.rules.per_language", {"hu": {"min_words": 3}, code: {"min_words": 5}}))
    assert f"mine.yaml: curate.rules.per_language names {code!r}" in error.what
    assert mend in error.mend


def test_a_source_may_have_a_language_of_its_own():
    values = changed("curate.rules.per_language", {"aii": {"min_words": 5}})
    refused(values)
    values["sources"][0]["lang"] = "aii"
    assert parse_recipe(values, "recipe.yaml").curate.rules.per_language["aii"] == {"min_words": 5}


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
        (
            "zzz",
            "valid here: compare, curate, description, document_epoch, evaluate, expect, export, extends, measure",
        ),
        ("train.seeds", "did you mean seed?"),
        ("train.batch_size", "did you mean batch?"),
        ("train.context", "it belongs at model.context"),
        ("train.vocab_size", "it belongs at tokenizer.vocab_size"),
        ("train.threads", "it belongs at runtime.train.threads"),
        ("train.device", "it belongs at runtime.train.device"),
        ("evaluate.device", "it belongs at runtime.evaluate.device"),
        ("tokens.workers", "it belongs at runtime.tokens.workers"),
        (
            "runtime.workers",
            "it belongs at runtime.measure.workers or runtime.tokenizer.workers or runtime.tokens.workers",
        ),
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
        ("train.continues", True, "train: continues goes on with a finished run: set init_from"),
        ("train", {"steps": 1, "init_from": "champion", "continues": True, "lora": {}}, "train: continues with lora"),
        ("train", {"steps": 1, "packing": "stride", "stride": 999}, "train.stride 999 is longer than the context"),
        ("train.mixture", {"docs": 1, "x": 1e-5}, "weight 1e-05 of a mixture is less than a thousandth"),
        ("train.stages", [{"share": 1, "mixture": {"a": 1, "b": 1e-5}}], "weight 1e-05 of a mixture is less than"),
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
    assert error.mend == f"write kind: one of {', '.join(NAMES)}"


@pytest.mark.parametrize(
    ("named", "told"),
    [("wiki", "is made from wiki, and there is no such source"), ("others", "is made from others, which is synthetic")],
)
def test_what_is_made_of_articles_names_a_source_that_has_some(named, told):
    made = [
        {"kind": "synthetic", "name": "made", "from": [named]},
        {"kind": "synthetic", "name": "others", "stories": 1},
    ]
    assert told in refused(MINIMAL | {"sources": [*MINIMAL["sources"], *made]}).what


def test_what_is_made_of_articles_is_collected_after_them():
    made = {"kind": "synthetic", "name": "made", "from": ["docs"]}
    recipe = parse_recipe(MINIMAL | {"sources": [made, *MINIMAL["sources"]]}, "mine.yaml")
    assert [[source.name for source in wave] for wave in recipe.waves] == [["docs"], ["made"]]
    again = parse_recipe(recipe.model_dump(mode="json"), "the plan")
    assert again == recipe
    assert again.sources[0].articles_of == ("docs",)


def test_two_sources_need_two_names():
    twice = [MINIMAL["sources"][0], FILES | {"name": "docs"}]
    assert refused(MINIMAL | {"sources": twice}).what == "mine.yaml: sources: two sources are called docs"
    assert len(parse_recipe(MINIMAL | {"sources": [MINIMAL["sources"][0], FILES]}, "x").sources) == 2


def test_a_time_zone_is_one_of_the_world_s():
    assert parse_recipe(MINIMAL | {"timezone": "Europe/Budapest"}, "x").timezone == "Europe/Budapest"


def test_more_processes_than_sequences_are_told_before_anything_runs():
    values = changed("runtime.train", {"processes": 3})
    values["train"] = {"steps": 1, "batch": 2}
    error = refused(values)
    assert error.what == "mine.yaml: 3 training processes share train.batch=2 sequences: some would have none"
    values["train"]["batch"] = 3
    assert parse_recipe(values, "x").runtime.train.processes == 3


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
