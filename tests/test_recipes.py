"""Recipes are frozen, named, checked; a setting without effect is refused."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from digitlib.errors import ParameterError
from digitlib.recipes import RANGES, RECIPES, Recipe, from_dict, get_recipe


def test_names_are_a_contract():
    assert list(RECIPES) == [
        "coursework",
        "instant",
        "wide",
        "fast",
        "balanced",
        "accurate",
        "best",
        "handwriting",
    ]
    assert all(name == recipe.name for name, recipe in RECIPES.items())


def test_coursework_is_the_published_experiment_to_the_number():
    recipe = get_recipe("coursework")
    published = {
        "epochs": 10,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "decay": 0.7,
        "dropout": 0.5,
        "scaling": "standard",
    }
    assert recipe.as_dict() | published == recipe.as_dict()
    extras = ("weight_decay", "label_smoothing", "averaging", "augmentation", "test_shift", "ridge")
    assert [getattr(recipe, name) for name in extras] == [0.0] * 6, (
        "what the reference did not do is off"
    )


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_recipe("fast").epochs = 3


@pytest.mark.parametrize("name", RECIPES)
def test_survives_json(name):
    assert from_dict(json.loads(json.dumps(RECIPES[name].as_dict()))) == RECIPES[name]


def test_settings_of_a_newer_version_are_refused():
    with pytest.raises(
        ParameterError, match="setting 'warp' is unknown; this run needs another version"
    ):
        from_dict({**RECIPES["fast"].as_dict(), "warp": 9})


@pytest.mark.parametrize(
    ("name", "setting"),
    [("instant", "epochs"), ("instant", "dropout"), ("fast", "decay"), ("best", "filters")],
)
def test_setting_without_effect_is_refused(name, setting):
    with pytest.raises(
        ParameterError, match=rf"^{setting}=1 has no effect on recipe {name}; change one of: "
    ):
        get_recipe(name).changed(**{setting: 1})


def test_unknown_setting_is_refused_and_the_known_ones_listed():
    with pytest.raises(
        ParameterError,
        match=(
            r"^setting .epoch. is unknown; those that can be changed are: filters, filter_size,"
            r" epochs, "
        ),
    ):
        get_recipe("fast").changed(epoch=3)


@pytest.mark.parametrize("setting", RANGES)
def test_each_range_has_two_ends(setting):
    owner = next(recipe for recipe in RECIPES.values() if getattr(recipe, setting) is not None)
    _, least, most = RANGES[setting]
    if setting == "ridge":
        owner = get_recipe("fast")  # the first that has it cannot be without it
    assert getattr(owner.changed(**{setting: least}), setting) == least
    for value in (least - 1, most + 1, "1", True, float("nan")):
        with pytest.raises(ParameterError, match=rf"^{setting}=.*: takes an? (integer|number) "):
            owner.changed(**{setting: value})


def test_a_recipe_of_ones_own_is_checked_too():
    with pytest.raises(ParameterError, match=r"^dropout=2: takes a number 0..0.95$"):
        dataclasses.replace(get_recipe("fast"), name="mine", dropout=2)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("wide", {"augmentation": None}, "copies=2 has no effect without augmentation"),
        ("handwriting", {"rewrites": None}, "drawn=300 has no effect without rewrites"),
        ("instant", {"filter_size": None}, "filters=28 has no effect without filter_size"),
        (
            "instant",
            {"ridge": 0},
            "recipe instant learns nothing but its readout; takes a number above 0",
        ),
    ],
)
def test_settings_that_need_each_other(name, settings, said):
    with pytest.raises(ParameterError, match=said):
        dataclasses.replace(get_recipe(name), **settings)


def test_runs_from_before_filters_had_a_size_can_be_read():
    settings = get_recipe("instant").as_dict()
    del settings["filter_size"]
    assert from_dict(settings) == get_recipe("instant")


def test_settings_are_those_that_the_search_on_the_training_writers_chose():
    spec = importlib.util.spec_from_file_location(
        "search", Path(__file__).parents[1] / "benchmarks" / "search.py"
    )
    search = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(search)
    chosen = search.choose(pd.read_csv(search.RESULTS))
    assert sorted(chosen, key=list(RECIPES).index) == [
        "instant",
        "wide",
        "fast",
        "balanced",
        "accurate",
        "best",
    ]
    for name, settings in chosen.items():
        assert get_recipe(name) == dataclasses.replace(get_recipe(name), **settings)


def test_unknown_recipe_lists_the_names():
    with pytest.raises(
        ParameterError,
        match=(
            r"^recipe 'quick' is unknown; choose one of: coursework, instant, wide, fast, balanced,"
            r" accurate, best, handwriting$"
        ),
    ):
        get_recipe("quick")


def test_unlearned_filters_are_called_so():
    assert [recipe.name for recipe in RECIPES.values() if not recipe.learned] == ["instant", "wide"]
    assert all("NOT learned" in get_recipe(name).summary for name in ("instant", "wide"))
    assert isinstance(get_recipe(RECIPES["best"]), Recipe)
