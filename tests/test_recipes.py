"""Recipes are named, frozen and checked."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from digitlib.compare.kernel import FilterKernel
from digitlib.errors import ParameterError
from digitlib.recipes import KERNEL, RECIPES, CompactRecipe, explain, from_dict, get_recipe
from digitlib.report.make import parse_settings

NAMES = ["coursework", "accurate", "best", "handwriting"]
SETTINGS = CompactRecipe.settings()


def test_names_are_a_contract():
    assert list(RECIPES) == NAMES


def test_coursework_is_the_published_experiment_to_the_number():
    recipe = get_recipe("coursework")
    published = {"epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "decay": 0.7}
    published |= {"dropout": 0.5, "scaling": "standard"}
    assert recipe.as_dict() | published == recipe.as_dict()
    extras = ("weight_decay", "label_smoothing", "averaging", "augmentation", "test_shift")
    assert [getattr(recipe, name) for name in extras] == [0.0] * 5, "the reference has none of it"


def test_recipes_survive_json_and_cannot_be_changed_in_place():
    for recipe in RECIPES.values():
        assert from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe.epochs = 3


REFUSED = [
    ("coursework", {"drawn": 1}, "^recipe coursework has no setting 'drawn'; it has: scaling, "),
    ("accurate", {"epoch": 3}, r"has no setting 'epoch'; did you mean epochs\?"),
    ("accurate", {"layers": "16 x"}, "^layers='16 x': takes words such as 16 32p 64"),
    ("accurate", {"augmentation": None}, "^augmentation=None: takes a number 0..2$"),
    ("accurate", {"schedule": "steps"}, "^schedule='steps': takes one of: step, one-cycle$"),
]


@pytest.mark.parametrize(("name", "settings", "said"), REFUSED)
def test_settings_that_cannot_be_are_refused(name, settings, said):
    with pytest.raises(ParameterError, match=said):
        get_recipe(name).changed(**settings)


@pytest.mark.parametrize("name", [n for n, one in SETTINGS.items() if one.type is not str])
def test_each_range_has_two_ends(name):
    least, most = SETTINGS[name].metadata["allowed"]
    assert getattr(get_recipe("best").changed(**{name: least}), name) == least
    for value in (least - 1, most + 1, "1", True, float("nan")):
        with pytest.raises(ParameterError, match=rf"^{name}=.*: takes an? (integer|number) "):
            get_recipe("best").changed(**{name: value})


@pytest.mark.parametrize("recipe", ["quick", None, ["kernel"]])
def test_unknown_recipe_lists_the_names(recipe):
    with pytest.raises(
        ParameterError, match=f"^recipe .* is unknown; .*{', '.join(NAMES)}, kernel$"
    ):
        get_recipe(recipe)


def test_the_kernel_machine_is_no_network_and_says_what_to_use():
    with pytest.raises(ParameterError, match=r"use digitlib\.compare\.kernel\.FilterKernel\(\)$"):
        get_recipe(KERNEL)


def test_settings_are_read_from_text_and_explained():
    assert parse_settings(["dropout=0.3; epochs=2", "layers=8 8p"]) == {
        "dropout": 0.3,
        "epochs": 2,
        "layers": "8 8p",
    }
    for text, said in (("dropout", "takes setting=value"), ("dropout=x", "takes a number 0..0.95")):
        with pytest.raises(ParameterError, match=said):
            parse_settings([text])
    assert [line.split(":")[0] for line in explain()] == list(SETTINGS)


def test_settings_are_those_that_the_search_on_the_training_writers_chose():
    path = Path(__file__).parents[1] / "benchmarks" / "search.py"
    spec = importlib.util.spec_from_file_location("search", path)
    search = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(search)
    chosen = search.choose(pd.read_csv(search.RESULTS))
    assert FilterKernel().get_params() == FilterKernel(**chosen.pop(KERNEL)).get_params()
    for name, settings in chosen.items():
        assert get_recipe(name) == get_recipe(name).changed(**settings)
