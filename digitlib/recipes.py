"""Recipes: named settings that say which network is trained, and how.

The numbers of each recipe stand in ``recipes.toml``; what a setting means and takes stands beside
its field here. One training loop serves them all.
"""

import difflib
import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from numbers import Integral, Real
from typing import Any

from digitlib.errors import ParameterError

KERNEL = "kernel"  # a recipe's name that stands for digitlib.compare.kernel.FilterKernel()
LAYERS = re.compile(r"[1-9]\d{0,3}p?( [1-9]\d{0,3}p?){0,15}")


def _setting(meaning, *allowed, default=None):
    """A field; `allowed`: the least and the largest number, or the words to choose from."""
    return field(default=default, metadata={"meaning": meaning, "allowed": allowed})


@dataclass(frozen=True)
class Recipe:
    """Settings of the reference network; what each means and takes: :func:`explain`.

    No setting is ``strangers``: how many of 1,000 digits of other people its networks read.

    Raises
    ------
    ParameterError
        A setting is of the wrong type or out of range.
    """

    name: str
    summary: str
    scaling: str = _setting("pixels to mean 0 and deviation 1, or to 0..1", "standard", "range")
    epochs: int = _setting("passes over the training images", 1, 100_000)
    batch_size: int = _setting("images per step", 1, 1_000_000)
    learning_rate: float = _setting("of AdamW, at its largest", 1e-9, 10.0)
    schedule: str = _setting("fall after each epoch, or rise and fall", "step", "one-cycle")
    decay: float = _setting("of the rate per epoch, with schedule step", 1e-3, 1.0, default=0.7)
    weight_decay: float = _setting("of AdamW; 0 makes it Adam", 0.0, 10.0)
    dropout: float = _setting("share of activations set to 0", 0.0, 0.95)
    label_smoothing: float = _setting("share of a target given to all classes", 0.0, 0.9)
    averaging: float = _setting("decay of the weights' moving average; 0: none", 0.0, 0.99999)
    augmentation: float = _setting("strength of shifts, turns, bending; 0: none", 0.0, 2.0)
    test_shift: float = _setting("pixels between nine views; 0: one view", 0.0, 2.0, default=0.0)
    strangers: int | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        for name, setting in self.settings().items():
            object.__setattr__(self, name, checked(setting, getattr(self, name)))

    @classmethod
    def settings(cls) -> dict:
        """The fields that are settings, by name."""
        return {one.name: one for one in fields(cls) if one.metadata}

    def as_dict(self) -> dict:
        """Plain dictionary of the name and the settings that have an effect, fit for JSON."""
        idle = () if self.schedule == "step" else ("decay",)
        names = [name for name in ("name", "summary", *self.settings()) if name not in idle]
        return {name: getattr(self, name) for name in names}

    def changes(self) -> dict[str, tuple]:
        """Settings that differ from the recipe of this name: name -> (value, the recipe's)."""
        ours, usual = self.as_dict(), RECIPES.get(self.name, self)
        pairs = {n: (ours[n], getattr(usual, n, None)) for n in self.settings() if n in ours}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def changed(self, **settings: Any) -> "Recipe":
        """A copy with other settings; ParameterError if it lacks or does not take one."""
        for name in settings:
            refuse_unknown(name, self.settings(), f"recipe {self.name}")
        return replace(self, **settings)


@dataclass(frozen=True)
class CompactRecipe(Recipe):
    """Settings of the compact network, on more images than there are."""

    layers: str = _setting("channels of each 3x3 convolution, p where a 2x2 pooling follows")
    rewrites: int = _setting("copies of each 8x8 image in another hand", 0, 100, default=0)
    drawn: int = _setting("drawn pictures of each form of each digit", 0, 10_000, default=0)


def refuse_unknown(name, known, whose):
    """Raise unless `name` is among the `known` names of settings."""
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]}?" if near else f"it has: {', '.join(known)}"
        raise ParameterError(f"{whose} has no setting {name!r}; {meant}")


def takes(setting) -> str:
    """What a setting takes, in words."""
    allowed = setting.metadata["allowed"]
    if setting.type is str:
        return f"one of: {', '.join(allowed)}" if allowed else "words such as 16 32p 64"
    return f"{'an integer' if setting.type is int else 'a number'} {allowed[0]:g}..{allowed[1]:g}"


def checked(setting, value):
    """`value` in the type of the setting; raises ParameterError if it does not take it."""
    kind, allowed = setting.type, setting.metadata["allowed"]
    if kind is str:
        good = isinstance(value, str) and (value in allowed if allowed else LAYERS.fullmatch(value))
    else:  # NumPy's numbers too, but no True
        good = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        good = good and allowed[0] <= value <= allowed[1]
    if not good:
        raise ParameterError(f"{setting.name}={value!r}: takes {takes(setting)}")
    return kind(value)


def explain() -> list[str]:
    """Lines of text: each setting, what it means and what it takes."""
    settings = CompactRecipe.settings().values()
    return [f"{one.name}: {one.metadata['meaning']} ({takes(one)})" for one in settings]


def from_dict(settings: dict) -> Recipe:
    """The recipe that :meth:`Recipe.as_dict` wrote; ParameterError if a setting is unknown."""
    kind = CompactRecipe if "layers" in settings else Recipe
    for name in settings.keys() - {"name", "summary", "strangers"}:
        refuse_unknown(name, kind.settings(), "this version of digitlib")
    return kind(**settings)


def get_recipe(recipe: str | Recipe) -> Recipe:
    """A recipe by its name; a :class:`Recipe` as it is; ParameterError if the name is unknown."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe == KERNEL:
        raise ParameterError("kernel is no network: use digitlib.compare.kernel.FilterKernel()")
    if not isinstance(recipe, str) or recipe not in RECIPES:
        names = ", ".join([*RECIPES, KERNEL])
        raise ParameterError(f"recipe {recipe!r} is unknown; choose one of: {names}")
    return RECIPES[recipe]


_table = tomllib.loads((files("digitlib") / "recipes.toml").read_text(encoding="utf-8"))
RECIPES = {name: from_dict({"name": name, **row}) for name, row in _table.items()}
