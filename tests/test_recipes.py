"""Recipes are frozen, named, checked; a setting without effect is refused."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from digitlib.errors import ParameterError
from digitlib.recipes import RECIPES, SETTINGS, explain, from_dict, get_recipe

NAMES = ["coursework", "kernel", "accurate", "best", "handwriting"]
NUMBERS = [name for name, setting in SETTINGS.items() if setting.type is not str]


def test_names_are_a_contract():
    assert list(RECIPES) == NAMES


def test_coursework_is_the_published_experiment_to_the_number():
    recipe = get_recipe("coursework")
    published = {"epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "decay": 0.7}
    published |= {"dropout": 0.5, "scaling": "standard"}
    assert recipe.as_dict() | published == recipe.as_dict()
    extras = ("weight_decay", "label_smoothing", "averaging", "augmentation", "test_shift")
    assert [getattr(recipe, name) for name in extras] == [0.0] * 5, "the reference has none of it"


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_recipe("accurate").epochs = 3


def test_recipes_survive_json():
    for recipe in RECIPES.values():
        kept = json.loads(json.dumps(recipe.as_dict()))
        assert from_dict(kept).as_dict() == recipe.as_dict()
        assert "seconds" not in kept, "a run folder does not hold what another machine took"


def test_settings_of_a_newer_version_are_refused():
    with pytest.raises(ParameterError, match="setting 'warp' is unknown; this run needs another"):
        from_dict({**RECIPES["accurate"].as_dict(), "warp": 9})


REFUSED = [
    ("kernel", {"epochs": 1}, "^epochs=1 has no effect on recipe kernel; "),
    ("accurate", {"decay": 1}, "^decay=1 has no effect on recipe accurate; "),
    ("best", {"filters": 1}, "^filters=1 has no effect on recipe best; "),
    ("coursework", {"drawn": 1}, "^drawn=1 has no effect on recipe coursework; "),
    ("accurate", {"epoch": 3}, "^setting .epoch. is unknown; .*: network, .*epochs"),
    ("accurate", {"network": "transformer"}, "takes one of: reference, compact, kernel"),
    ("accurate", {"layers": "16 x"}, "takes channels and p for pooling, such as 16 32p 64"),
    ("accurate", {"augmentation": None}, "augmentation is missing"),
    ("handwriting", {"rewrites": None, "drawn": 3}, "drawn=3 has no effect"),
]


@pytest.mark.parametrize(("name", "settings", "said"), REFUSED)
def test_settings_that_cannot_be_are_refused(name, settings, said):
    with pytest.raises(ParameterError, match=said):
        get_recipe(name).changed(**settings)


@pytest.mark.parametrize("setting", NUMBERS)
def test_each_range_has_two_ends(setting):
    owner = next(r for r in RECIPES.values() if getattr(r, setting) is not None)
    least, most = SETTINGS[setting].metadata["allowed"]
    assert getattr(owner.changed(**{setting: least}), setting) == least
    for value in (least - 1, most + 1, "1", True, float("nan")):
        with pytest.raises(ParameterError, match=rf"^{setting}=.*: takes an? (integer|number) "):
            owner.changed(**{setting: value})


def test_settings_that_lose_their_effect_by_a_change_are_dropped():
    assert get_recipe("coursework").changed(schedule="one-cycle").decay is None


def test_a_recipe_of_ones_own_is_checked_too():
    with pytest.raises(ParameterError, match=r"^dropout=2: takes a number 0..0.95$"):
        dataclasses.replace(get_recipe("accurate"), dropout=2)
    recipe = get_recipe("handwriting")
    with pytest.raises(ParameterError, match=rf"^drawn={recipe.drawn} has no effect"):
        dataclasses.replace(recipe, rewrites=None)


def test_settings_are_those_that_the_search_on_the_training_writers_chose():
    path = Path(__file__).parents[1] / "benchmarks" / "search.py"
    spec = importlib.util.spec_from_file_location("search", path)
    search = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(search)
    chosen = search.choose(pd.read_csv(search.RESULTS))
    assert sorted(chosen, key=NAMES.index) == NAMES[1:-1]
    for name, settings in chosen.items():
        assert get_recipe(name) == dataclasses.replace(get_recipe(name), **settings)


@pytest.mark.parametrize("recipe", ["quick", None, ["kernel"]])
def test_unknown_recipe_lists_the_names(recipe):
    with pytest.raises(ParameterError, match=f"^recipe .* is unknown; .*{', '.join(NAMES)}$"):
        get_recipe(recipe)


def test_every_setting_is_explained():
    assert [line.split(":")[0] for line in explain()] == list(SETTINGS)
