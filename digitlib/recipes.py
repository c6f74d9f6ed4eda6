"""Recipes: named, frozen settings that say which network is trained, and how.

The numbers of each recipe stand in ``recipes.toml``; what a setting means and which values it takes
stands beside its field in :class:`Recipe`. One training loop serves them all.
"""

import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any

from digitlib.errors import ParameterError

LAYERS = re.compile(r"[1-9]\d{0,3}p?( [1-9]\d{0,3}p?){0,15}")

NUMBERS = {int: Integral, float: Real}  # what a setting of that type takes, NumPy's numbers too

# Of which recipes a setting decides something.
APPLIES = {
    "all": lambda recipe: True,
    "learned": lambda recipe: recipe.network != "kernel",
    "built": lambda recipe: recipe.network in ("reference", "compact"),
    "compact": lambda recipe: recipe.network == "compact",
    "kernel": lambda recipe: recipe.network == "kernel",
    "step": lambda recipe: recipe.schedule == "step",
    "rewritten": lambda recipe: bool(recipe.rewrites),
}


def _setting(meaning, *allowed, of="all", needed=True, default=None):
    """A field; `allowed`: the least and the largest number, or the words to choose from."""
    metadata = {"meaning": meaning, "allowed": allowed, "of": of, "needed": needed}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, apart from the data and the seed.

    None: a setting does not apply. No settings are ``seconds``, what the 4-fold cross-validation of
    5,620 rows takes on two cores, and ``strangers``, how many of 1,000 digits of other people the
    networks of its four folds read.

    Raises
    ------
    ParameterError
        A setting is missing, of the wrong type, out of range, or without effect beside the others.
    """

    name: str
    summary: str
    network: str = _setting("which network", "reference", "compact", "kernel", "own")
    scaling: str = _setting("pixels to mean 0 and deviation 1, or to 0..1", "standard", "range")
    layers: str = _setting(
        "channels of each 3x3 convolution, p where a 2x2 max-pooling follows: 16 32p 64",
        of="compact",
    )
    filters: int = _setting("random filters, each used with its negative", 1, 4096, of="kernel")
    filter_size: int = _setting("rows and columns of a random filter", 2, 7, of="kernel")
    centres: int = _setting("images that are kept, the hardest", 1, 20_000, of="kernel")
    gamma: float = _setting("of the kernel exp(-gamma d^2 / mean d^2)", 1e-6, 1e6, of="kernel")
    epochs: int = _setting("passes over the training images", 1, 100_000, of="learned")
    batch_size: int = _setting("images per step", 1, 1_000_000, of="learned")
    learning_rate: float = _setting(
        "of AdamW: at the first step, or at the top of one-cycle", 1e-9, 10.0, of="learned"
    )
    schedule: str = _setting(
        "step: the rate times decay after each epoch; one-cycle: up for a fifth of all steps, then"
        " down to 0",
        *("step", "one-cycle"),
        of="learned",
    )
    decay: float = _setting("of the learning rate, with schedule step", 1e-3, 1.0, of="step")
    weight_decay: float = _setting("of AdamW; 0 makes it Adam", 0.0, 10.0, of="learned")
    dropout: float = _setting("share of activations set to 0", 0.0, 0.95, of="built")
    label_smoothing: float = _setting("share given to all classes", 0.0, 0.9, of="learned")
    averaging: float = _setting(
        "decay per step of the average of weights that is kept; 0: the last weights are kept",
        *(0.0, 0.99999),
        of="learned",
    )
    augmentation: float = _setting(
        "1: shifts to half a pixel, turns to 10 degrees, scale, shear to 10 %, bending; 0: none",
        *(0.0, 2.0),
        of="learned",
    )
    test_shift: float = _setting(
        "pixels of the nine shifted views that a prediction averages; 0: one view",
        *(0.0, 2.0),
        needed=False,
        default=0.0,
    )
    ridge: float = _setting("penalty of the kernel's readout", 1e-9, 1e9, of="kernel")
    rewrites: int = _setting(
        "copies of each image in another hand (of 8x8 images, 0..16; others are repeated)",
        *(1, 100),
        of="learned",
        needed=False,
    )
    drawn: int = _setting(
        "drawn pictures of each form of each digit", 1, 10_000, of="rewritten", needed=False
    )
    seconds: float | None = field(default=None, compare=False, repr=False)
    strangers: int | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        for name, setting in SETTINGS.items():
            value, applies = getattr(self, name), APPLIES[setting.metadata["of"]](self)
            if value is not None and value != setting.default and not applies:
                raise self._without_effect(name, value)
            if value is not None:
                object.__setattr__(self, name, checked(name, value))
            elif applies and setting.metadata["needed"]:
                raise ParameterError(f"{name} is missing: it takes {takes(name)}")

    @property
    def learned(self) -> bool:
        """Whether any filter is learned; if not, only the last layer is fitted."""
        return self.epochs is not None

    def _without_effect(self, name, value):
        used = [name for name, s in SETTINGS.items() if APPLIES[s.metadata["of"]](self)]
        return ParameterError(
            f"{name}={value!r} has no effect on recipe {self.name}; change one of:"
            f" {', '.join(used)}"
        )

    def changes(self) -> dict[str, tuple]:
        """Settings that differ from the recipe of this name: name -> (value, the recipe's)."""
        usual = RECIPES.get(self.name, self)
        pairs = {name: (getattr(self, name), getattr(usual, name)) for name in SETTINGS}
        return {
            name: (value, before)
            for name, (value, before) in pairs.items()
            if value not in (before, None) and value != "own"
        }

    def as_dict(self) -> dict:
        """Plain dictionary of the settings that apply, fit for JSON."""
        values = {name: getattr(self, name) for name in ("name", "summary", *SETTINGS)}
        return {name: value for name, value in values.items() if value is not None}

    def changed(self, **settings: Any) -> "Recipe":
        """A copy with other settings; those that lose their effect by it are dropped.

        Raises
        ------
        ParameterError
            A setting is unknown, of the wrong type, out of range or without effect.
        """
        for name in settings:
            _refuse_unknown(name)
        bare = SimpleNamespace(**{**vars(self), **settings})
        dropped: dict[str, Any] = {}
        for name, setting in SETTINGS.items():
            if not APPLIES[setting.metadata["of"]](bare):
                if name in settings:
                    raise self._without_effect(name, settings[name])
                dropped[name] = setting.default
                setattr(bare, name, setting.default)
        return replace(self, **dropped, **settings)


SETTINGS = {setting.name: setting for setting in fields(Recipe) if setting.metadata}


def _refuse_unknown(name):
    if name not in SETTINGS:
        raise ParameterError(
            f"setting {name!r} is unknown; those that can be changed are: {', '.join(SETTINGS)}"
        )


def takes(name: str) -> str:
    """What a setting takes, in words."""
    allowed = SETTINGS[name].metadata["allowed"]
    if name == "layers":
        return "channels and p for pooling, such as 16 32p 64"
    if SETTINGS[name].type is str:
        return f"one of: {', '.join(allowed)}"
    kind = "an integer" if SETTINGS[name].type is int else "a number"
    return f"{kind} {allowed[0]:g}..{allowed[1]:g}"


def checked(name, value):
    """`value` in the type of the setting `name`; raises ParameterError if it does not take it."""
    kind, allowed = SETTINGS[name].type, SETTINGS[name].metadata["allowed"]
    fits = isinstance(value, NUMBERS.get(kind, str)) and not isinstance(value, bool)
    if name == "layers":
        good = fits and LAYERS.fullmatch(value)
    else:
        good = fits and (value in allowed if kind is str else allowed[0] <= value <= allowed[1])
    if not good:
        raise ParameterError(f"{name}={value!r}: takes {takes(name)}")
    return kind(value)


def explain() -> list[str]:
    """Lines of text: each setting, what it means and what it takes."""
    return [f"{name}: {s.metadata['meaning']} ({takes(name)})" for name, s in SETTINGS.items()]


# For help(Recipe).
Recipe.__doc__ = f"{Recipe.__doc__}\n    Parameters\n    ----------\n" + "".join(
    f"    {name} : {takes(name)}\n        {setting.metadata['meaning']}\n"
    for name, setting in SETTINGS.items()
)

_table = files("digitlib").joinpath("recipes.toml").read_text(encoding="utf-8")
RECIPES = {name: Recipe(name, **row) for name, row in tomllib.loads(_table).items()}


def parse(texts):
    """Settings from texts such as ``"dropout=0.3"``; a text may hold several, with ; between.

    Raises
    ------
    ParameterError
        A text is no setting, or the setting is unknown or does not take the value.
    """
    settings = {}
    for text in filter(str.strip, ";".join(texts).split(";")):
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ParameterError(f"set={text.strip()!r}: takes setting=value, such as dropout=0.3")
        _refuse_unknown(name)
        try:
            settings[name] = checked(name, SETTINGS[name].type(value))
        except ValueError:
            raise ParameterError(f"{name}={value!r}: takes {takes(name)}") from None
    return settings


def get_recipe(recipe: str | Recipe) -> Recipe:
    """A recipe by its name; a :class:`Recipe` is returned as it is.

    Raises
    ------
    ParameterError
        No recipe has that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise ParameterError(f"recipe {recipe!r} is unknown; choose one of: {', '.join(RECIPES)}")
    return RECIPES[recipe]


def from_dict(settings: dict) -> Recipe:
    """The recipe that :meth:`Recipe.as_dict` wrote.

    Raises
    ------
    ParameterError
        A setting is unknown.
    """
    if unknown := sorted(set(settings) - {"name", "summary", *SETTINGS}):
        raise ParameterError(
            f"recipe setting {unknown[0]!r} is unknown; this run needs another version of digitlib"
        )
    return Recipe(**settings)
