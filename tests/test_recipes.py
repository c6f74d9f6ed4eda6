"""Recipes are frozen, named, checked; a setting without effect is refused."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from digitlib import recipes
from digitlib.errors import ParameterError
from digitlib.recipes import RECIPES, RETIRED, SETTINGS, explain, from_dict, get_recipe

NAMES = ["coursework", "instant", "kernel", "balanced", "accurate", "best", "handwriting"]
NUMBERS = [name for name, setting in SETTINGS.items() if setting.type is not str]


def test_names_are_a_contract():
    assert list(RECIPES) == NAMES


def test_coursework_is_the_published_experiment_to_the_number():
    recipe = get_recipe("coursework")
    published = {"epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "decay": 0.7}
    published |= {"dropout": 0.5, "scaling": "standard"}
    assert recipe.as_dict() | published == recipe.as_dict()
    extras = ("weight_decay", "label_smoothing", "averaging", "augmentation", "test_shift", "ridge")
    assert [getattr(recipe, name) for name in extras] == [0.0] * 6, "the reference has none of it"


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_recipe("balanced").epochs = 3


def test_recipes_survive_json():
    for recipe in RECIPES.values():
        kept = json.loads(json.dumps(recipe.as_dict()))
        assert from_dict(kept).as_dict() == recipe.as_dict()
        assert "seconds" not in kept, "a run folder does not hold what another machine took"


def test_settings_of_a_newer_version_are_refused():
    with pytest.raises(ParameterError, match="setting 'warp' is unknown; this run needs another"):
        from_dict({**RECIPES["balanced"].as_dict(), "warp": 9})


REFUSED = [
    ("instant", {"epochs": 1}, "^epochs=1 has no effect on recipe instant; "),
    ("instant", {"dropout": 1}, "^dropout=1 has no effect on recipe instant; "),
    ("balanced", {"decay": 1}, "^decay=1 has no effect on recipe balanced; "),
    ("best", {"filters": 1}, "^filters=1 has no effect on recipe best; "),
    ("coursework", {"drawn": 1}, "^drawn=1 has no effect on recipe coursework; "),
    ("balanced", {"epoch": 3}, "^setting .epoch. is unknown; .*: network, .*epochs"),
    ("balanced", {"network": "transformer"}, "takes one of: reference, compact, random-filters"),
    ("balanced", {"layers": "16 x"}, "takes channels and p for pooling, such as 16 32p 64"),
    ("balanced", {"network": "random-filters"}, "filters is missing: it takes an integer 1..4096"),
    ("balanced", {"augmentation": None}, "augmentation is missing"),
    ("kernel", {"copies": 2}, "^copies=2 has no effect on recipe kernel; "),
    ("balanced", {"centres": 9}, "^centres=9 has no effect on recipe balanced; "),
    ("handwriting", {"rewrites": None, "drawn": 3}, "drawn=3 has no effect"),
    ("instant", {"filter_size": None}, "filter_size is missing"),
    ("instant", {"ridge": 0}, "learns nothing but its readout; takes a number above 0"),
]


@pytest.mark.parametrize(("name", "settings", "said"), REFUSED)
def test_settings_that_cannot_be_are_refused(name, settings, said):
    with pytest.raises(ParameterError, match=said):
        get_recipe(name).changed(**settings)


@pytest.mark.parametrize("name", ["wide", "fast"])
def test_a_retired_name_says_what_to_use_instead_and_its_runs_can_be_read(name):
    with pytest.raises(ParameterError, match=f"^recipe '{name}' was retired; use kernel, "):
        get_recipe(name)
    assert from_dict(RETIRED[name].as_dict()) == RETIRED[name]
    changed = {**RETIRED[name].as_dict(), "ridge": 0.5}
    assert from_dict(changed).changes() == {"ridge": (0.5, RETIRED[name].ridge)}


@pytest.mark.parametrize("setting", NUMBERS)
def test_each_range_has_two_ends(setting):
    owner = next(r for r in (RECIPES | RETIRED).values() if getattr(r, setting) is not None)
    least, most = SETTINGS[setting].metadata["allowed"]
    if setting == "ridge":
        owner = get_recipe("balanced")  # the first that has it cannot be without it
    assert getattr(owner.changed(**{setting: least}), setting) == least
    for value in (least - 1, most + 1, "1", True, float("nan")):
        with pytest.raises(ParameterError, match=rf"^{setting}=.*: takes an? (integer|number) "):
            owner.changed(**{setting: value})


def test_settings_that_lose_their_effect_by_a_change_are_dropped():
    filters = {"network": "random-filters", "filters": 9, "filter_size": 3, "ridge": 0.1}
    kept = get_recipe("coursework").changed(**filters).as_dict()
    assert {"epochs", "decay", "dropout", "layers"}.isdisjoint(kept) and kept["filters"] == 9
    assert get_recipe("coursework").changed(schedule="one-cycle").decay is None


def test_a_recipe_of_ones_own_is_checked_too():
    with pytest.raises(ParameterError, match=r"^dropout=2: takes a number 0..0.95$"):
        dataclasses.replace(get_recipe("balanced"), dropout=2)
    recipe = get_recipe("handwriting")
    with pytest.raises(ParameterError, match=rf"^drawn={recipe.drawn} has no effect"):
        dataclasses.replace(recipe, rewrites=None)


def test_runs_from_before_filters_had_a_size_can_be_read():
    (first,) = recipes.EARLIER["instant"]
    settings = first.as_dict()
    del settings["filter_size"]
    assert from_dict(settings).as_dict() == first.as_dict()


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


def test_a_recipe_with_its_earlier_settings_has_no_changes():
    assert all(before.changes() == {} for rows in recipes.EARLIER.values() for before in rows)
    for before in recipes.EARLIER["handwriting"]:
        assert before != RECIPES["handwriting"]
        assert before.changed(dropout=0.3).changes() == {"dropout": (0.3, before.dropout)}
    assert RECIPES["handwriting"].changed(epochs=9).changes() == {"epochs": (9, 11)}
