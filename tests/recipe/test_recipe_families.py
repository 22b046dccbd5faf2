"""The `model:` section by family: its settings, its errors, and what a family cannot be asked for."""

from __future__ import annotations

import pytest
from recipes_made import MINIMAL

from flows.plan import make_plan
from lmcore.models.config import DecoderConfig
from lmcore.models.mu_config import MuConfig
from lmcore.recipe import load_recipe, parse_recipe
from storage.errors import UserError
from storage.store import Store


def of_family(**model):
    return MINIMAL | {"model": model, "export": {"hf": False}}


def test_the_family_says_which_settings_there_are():
    recipe = parse_recipe(of_family(family="mu", n_layers=3, matrix=[4, 4], n_heads=4), "mine.yaml")
    assert recipe.model == MuConfig(n_layers=3, matrix=(4, 4), n_heads=4)
    assert recipe.training.model == recipe.model
    assert parse_recipe(recipe.model_dump(mode="json"), "its own dump") == recipe
    assert recipe.training.key_values()["model"]["family"] == "mu"
    assert parse_recipe(of_family(n_layers=3), "mine.yaml").model == DecoderConfig(n_layers=3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "moo"}, "mine.yaml: there is no such model.family; write family: one of decoder, mu"),
        ({"family": 3}, "mine.yaml: there is no such model.family; write family: one of decoder, mu"),
        ({"family": "mu", "layers": 3}, "mine.yaml: unknown key model.layers; did you mean n_layers?"),
        ({"family": "mu", "n_layers": "3"}, "mine.yaml: model.n_layers: Input should be a valid integer"),
        ({"family": "mu", "matrix": [8, 7]}, "mine.yaml: model: blocks of (2, 2) do not tile a matrix of (8, 7)"),
        ({"n_layers": 0}, "mine.yaml: model.n_layers: Input should be greater than or equal to 1"),
        ({"matrix": [8, 8]}, "mine.yaml: unknown key model.matrix"),
    ],
)
def test_what_is_wrong_with_a_model_is_named(model, message):
    with pytest.raises(UserError) as error:
        parse_recipe(of_family(**model), "mine.yaml")
    assert f"{error.value.what}; {error.value.mend}".startswith(message)


def test_what_a_family_cannot_is_said_before_anything_runs(tmp_path):
    mu = of_family(family="mu")
    with pytest.raises(UserError, match="no stock Hugging Face architecture is a model of family mu"):
        parse_recipe(mu | {"export": {}}, "mine.yaml")
    with pytest.raises(UserError, match=r"train\.lora adapts models of family decoder"):
        parse_recipe(mu | {"train": {"steps": 1, "init_from": "champion", "lora": {}}}, "mine.yaml")
    published = parse_recipe(of_family(family="mu", compat="original"), "mine.yaml")  # `params` counts it
    with pytest.raises(UserError, match="lets every token see the next one"):
        make_plan(Store(tmp_path), published)


def test_another_family_begins_with_settings_of_its_own(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "extends: quickstart\nname: x\nmodel: {family: mu, n_layers: 2}\nexport: {hf: false}\n", encoding="utf-8"
    )
    assert load_recipe(str(tmp_path / "x.yaml")).model == MuConfig(n_layers=2)
    assert load_recipe(str(tmp_path / "x.yaml"), ["model.family=mu", "model.context=64"]).model.n_layers == 2
    assert load_recipe(str(tmp_path / "x.yaml"), ["model.family=decoder"]).model == DecoderConfig()
    told = ["export.hf=false", "model.family=mu", "model.context=64"]
    assert load_recipe("quickstart", told).model == MuConfig(context=64)
    assert load_recipe("quickstart", ["model.family=decoder"]).model == load_recipe("quickstart").model
