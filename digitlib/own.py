"""A model of your own: from a file or a notebook's cell to a classifier, and back from a run.

A run that was made with code of the user's keeps that code beside it as ``model.py``: a file whose
function takes a seed and returns the classifier. Reading a run never executes it unless asked to.
"""

import ast
import hashlib
import importlib.util
import re
import symtable
import sys
import textwrap
import tomllib
import traceback
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
import torch
from IPython import get_ipython
from safetensors.numpy import load_file, save
from torch import nn

from digitlib.classifier import DigitClassifier
from digitlib.compare.kernel import FilterKernel
from digitlib.errors import ParameterError, RunError, plain
from digitlib.files import check_file
from digitlib.model import name_of
from digitlib.recipes import KERNEL, from_dict
from digitlib.scaling import PixelScaler

FUNCTION = "model"  # that a file of the user's is expected to have
ALLOW = "if you trust it, allow it: run_code=True, on the command line --run-code"
# What a kept classifier may hold beside the types that skops itself trusts.
SAFE_TYPES = tomllib.loads((files("digitlib") / "safe.toml").read_text(encoding="utf-8"))
SAFE = {f"{module}.{name}" for module, names in SAFE_TYPES.items() for name in names.split()}
# Statements of a notebook that may go into a file; an if or a loop may not.
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
HEADER = ("classes", "mean", "scale")  # arrays beside the weights of a network


def classifier(recipe, seed, changes=None, epochs=None):
    """The classifier that the name of a recipe stands for: a network, or the kernel machine."""
    if recipe != KERNEL:
        return DigitClassifier(recipe, seed, changes=changes, epochs=epochs or None)
    if changes or epochs:
        raise ParameterError("recipe kernel has no settings; write FilterKernel(...) of your own")
    return FilterKernel(seed)


def from_file(spec, seed):
    """The classifier that the function of a user's file returns for `seed`; runs the file.

    Parameters
    ----------
    spec : str
        ``"my_model.py"`` or ``"my_model.py:name"``.
    seed : int

    Raises
    ------
    ParameterError
        The file or its function fails, or what it returns is no classifier with probabilities.
    """
    path, name = split_spec(spec)
    try:
        make = getattr(_module(path), name, None)
        made = make(seed) if make else None
        if isinstance(made, DigitClassifier):
            made.blank_network()  # a network that cannot work is told at once
    except Exception as error:
        told = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
        lines = [f.lineno for f in told] or [getattr(error, "lineno", None)]
        line = f", line {lines[-1]}" if lines[-1] else ""
        kind = "" if isinstance(error, ParameterError) else f"{type(error).__name__}: "
        said = str(error).partition("\n")[0]
        raise ParameterError(f"{path}{line}: {kind}{said}") from error
    if make is None:
        remedy = f"it takes seed and returns a classifier, or name another: {path.name}:function"
        raise ParameterError(f"{path}: has no function {name}; {remedy}")
    if isinstance(made, type) or not hasattr(made, "fit"):
        found = "nothing: is a return missing?" if made is None else type(made).__name__
        remedy = 'a network goes into DigitClassifier("coursework", seed, network=...)'
        raise ParameterError(
            f"{path}: {name}(seed) returned {found}; it takes a classifier; {remedy}"
        )
    return made


def split_spec(spec):
    """Path and function of ``"my_model.py"`` or ``"my_model.py:name"``; ParameterError if wrong."""
    found = re.fullmatch(r"(.+\.py)(?::(\w+))?", str(spec))
    if not found:
        raise ParameterError(f"model={str(spec)!r}: takes my_model.py or my_model.py:function")
    remedy = "model takes the path of a Python file"
    path = check_file(Path(found[1]).resolve(), ParameterError, remedy, 1_000_000)
    return path, found[2] or FUNCTION


def _module(path):
    """The module in a file, under a name that follows from its text."""
    name = f"model_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if name not in sys.modules:
        where = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(where)  # found again by name
        try:
            where.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


# ---- what a notebook defines ---------------------------------------------------------------------


def source_of(spec=""):
    """Text of the file that makes the classifier: the user's file, or written from a notebook.

    Of a notebook, the last cell that sets `classifier` is taken whole, with what it needs of
    others: imports, functions, classes, assignments.

    Parameters
    ----------
    spec : str
        As for :func:`from_file`; empty: from the notebook that runs this.

    Returns
    -------
    str or None
        None outside a notebook.
    """
    if spec:
        path, name = split_spec(spec)
        text = path.read_text(encoding="utf-8")
        return text if name == FUNCTION else f"{text}\n\n{FUNCTION} = {name}\n"
    shell, made, defined = get_ipython(), None, {}  # name -> text of its statement
    for cell in shell.user_ns.get("In", ()) if shell else ():
        text, parts = shell.transform_cell(cell), {}
        try:
            statements = ast.parse(text).body
        except SyntaxError:
            continue
        for node in (each for each in statements if isinstance(each, KEPT)):
            first = min(n.lineno for n in [node, *getattr(node, "decorator_list", ())])
            part = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
            parts |= dict.fromkeys(_bound(part), part)
        if "classifier" in parts:
            made = text.strip()
        else:
            defined |= parts
    if made is None:
        return None
    defined.pop("seed", None)
    parts = sorted(
        _needed(made, defined), key=lambda part: not part.startswith(("import ", "from "))
    )
    body = textwrap.indent(f"{made}\nreturn classifier", "    ")
    return "\n".join([*parts, "", "", f"def {FUNCTION}(seed):", body, ""])


def _bound(text):
    """Names that statements of a module define or import."""
    symbols = symtable.symtable(text, "cell", "exec").get_symbols()
    return {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}


def _needed(text, defined):
    """Statements that `text` needs, each after those that it needs itself; empties `defined`."""
    parts = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and (part := defined.pop(node.id, None)):
            parts |= _needed(part, defined) | {part: None}
    return parts


# ---- what a run folder says of it, and keeps -----------------------------------------------------


def facts(classifier):
    """What ``run.json`` says of a classifier: ``recipe`` and ``model``."""
    kind, name = "recipe", ""
    if isinstance(classifier, DigitClassifier):
        recipe = classifier.settings().as_dict()
        if classifier.network is not None:
            kind, name = "network", name_of(classifier.network)
    elif repr(classifier) == repr(FilterKernel(getattr(classifier, "random_state", None))):
        recipe = {"name": KERNEL, "summary": "Ridge regression on fixed random filters."}
    else:
        steps = getattr(classifier, "steps", [(None, classifier)])
        kind, name = "estimator", " + ".join(type(step).__name__ for _, step in steps)
        recipe = {"name": name, "summary": "A classifier of the user's own."}
    return {"recipe": recipe, "model": {"kind": kind, "name": name}}


def changed(info):
    """Settings that are not the recipe's: name -> (value, the recipe's); `info`: ``run.json``."""
    known = info["model"]["kind"] != "estimator" and info["recipe"]["name"] != KERNEL
    return from_dict(info["recipe"]).changes() if known else {}


def label(info):
    """What was run, in words, from ``run.json``: `coursework, changed: dropout 0.3 (0.5)`."""
    name, recipe = info["model"]["name"], info["recipe"]["name"]
    own = {"network": f"own network {name}, trained as {recipe}"}
    words = (own | {"estimator": f"own classifier {name}"}).get(info["model"]["kind"], recipe)
    changes = [f"{name} {value} ({usual})" for name, (value, usual) in changed(info).items()]
    words = f"{words}, changed: {', '.join(changes)}" if changes else words
    files = [Path(name).name for name in info.get("code", {}).get("changed") or ()]
    said = f"{len(files)} files" if len(files) > 2 else ", ".join(files)  # the index has all
    return f"{words}, with changed code: {said}" if files else words


def summary(info):
    """The recipe in a sentence; where something was changed, that it is not the recipe."""
    known = info["model"]["kind"] == "recipe" and not info.get("code", {}).get("changed")
    if info["model"]["kind"] == "estimator" or (known and not changed(info)):
        return info["recipe"]["summary"]
    return f"Not recipe {info['recipe']['name']} as it is known: what was changed is named."


def keep(fitted, path):
    """Write a fitted classifier beside `path`, with the ending safetensors or skops.

    Returns
    -------
    tuple
        Name of the file, and None; or None, and why it cannot be kept so that it is read back.
    """
    if isinstance(fitted, DigitClassifier):
        path, scaler = path.with_suffix(".safetensors"), fitted.scaler_
        arrays = dict(zip(HEADER, (fitted.classes_, scaler.mean_, scaler.scale_), strict=True))
        # Not save_file: it would hide the file from other users.
        path.write_bytes(save(arrays | fitted.__getstate__()["weights_"]))
        return path.name, None
    path = path.with_suffix(".skops")
    try:
        skops.io.dump(fitted, path)
        skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    except Exception as error:
        path.unlink(missing_ok=True)
        return None, plain(f"{type(error).__name__}: {error}".partition("\n")[0], 200)
    return path.name, None


def differs(path, seed, fitted):
    """What the model that ``model.py`` makes has otherwise than the one that was used; or None."""
    try:
        made, used = from_file(str(path), seed).get_params(), fitted.get_params()
    except ParameterError as error:
        return plain(str(error).rpartition(f"{path.parent}/")[2], 200)
    for name in sorted(made.keys() | used.keys()):
        one, other = (_text(each.get(name)) for each in (made, used))
        if one != other and " at 0x" not in one:  # objects without a text of their own
            return plain(f"{name} is {one} there, {other} was used", 200)
    return None


def _text(value):
    """A parameter as text; of a function or class the name, wherever it is defined."""
    return getattr(value, "__qualname__", None) or repr(value)


def made_by(run, seed):
    """The classifier, not fitted, that a run was made with, for `seed`."""
    if not run.own:
        name = run.info["recipe"]["name"]
        return classifier(KERNEL if name == KERNEL else from_dict(run.info["recipe"]), seed)
    if not run.run_code:
        raise RunError(f"{run.path}: its model is the user's own code, model.py; {ALLOW}")
    return from_file(str(run.path / "model.py"), seed)


def load_fold(path, run):
    """The fitted classifier in a file of a run folder.

    Raises
    ------
    RunError
        It is damaged, or holds what could run code and the run does not allow that.
    """
    check_file(path, RunError, "train again")
    classifier = run.classifier() if path.suffix == ".safetensors" else None
    try:
        if classifier is not None:
            return _with_weights(classifier, path)
        if run.run_code and (source := path.with_name("model.py")).is_file():
            _module(source)
        types = skops.io.get_untrusted_types(file=path)
        strange = sorted(set(types) - SAFE)
        if run.run_code or not strange:
            return skops.io.load(path, trusted=types)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RunError(f"{path}: cannot be read ({said}); train again") from error
    raise RunError(f"{path}: holds {plain(', '.join(strange), 200)}, which could run code; {ALLOW}")


def _with_weights(classifier, path):
    """The classifier, fitted, with what :func:`keep` wrote: numbers and text, nothing that runs."""
    weights = load_file(path)
    if any(np.isnan(array).any() for array in weights.values()):
        raise ValueError("holds weights that are no numbers")
    recipe = classifier.settings()
    scaler = PixelScaler(recipe.scaling)
    classes, scaler.mean_, scaler.scale_ = map(weights.pop, HEADER)
    state = {"recipe_": recipe, "scaler_": scaler, "classes_": classes, "weights_": weights}
    state |= {"n_features_in_": len(scaler.mean_), "history_": []}
    classifier.__setstate__(vars(classifier) | state)
    return classifier


# ---- for the pages -------------------------------------------------------------------------------


def settings_table(classifier):
    """Settings of a classifier, their values and, where it is known, what they mean."""
    if not isinstance(classifier, DigitClassifier):
        rows = [(name, repr(value), "") for name, value in classifier.get_params().items()]
    else:
        recipe = classifier.settings()
        idle = ("layers", "dropout") if classifier.network is not None else ()
        rows = [
            (name, str(value), recipe.settings()[name].metadata["meaning"])
            for name, value in recipe.as_dict().items()
            if name not in ("name", "summary", *idle)
        ]
    return pd.DataFrame(rows, columns=["setting", "value", "meaning"]).set_index("setting")


def layers(classifier, side=8, n_classes=10):
    """Layers of a classifier's network with output shapes and parameters; None if it has none."""
    if not isinstance(classifier, DigitClassifier):
        return None
    network = classifier.blank_network(side, n_classes).eval()
    rows, x = [], torch.zeros(1, 1, side, side)
    for number, layer in enumerate(_flat(network)):
        x, parameters = layer(x), sum(p.numel() for p in layer.parameters())
        shape = " x ".join(map(str, x.shape[1:]))
        rows.append((f"{number} {type(layer).__name__}", shape, parameters))
    return pd.DataFrame(rows, columns=["layer", "output", "parameters"]).set_index("layer")


def _flat(module):
    """Layers in order; those of a sequence in a sequence one by one."""
    if type(module).forward is not nn.Sequential.forward:
        return [module]
    return [layer for child in module for layer in _flat(child)]
