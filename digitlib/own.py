"""A model of your own: from a file or a notebook's cell to a classifier, and back from a run.

A run that was made with code of the user's keeps that code beside it as ``model.py``: a file whose
function takes a seed and returns the classifier. Reading a run never executes it unless asked to.
"""

import ast
import hashlib
import importlib.util
import json
import re
import sys
import textwrap
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from digitlib.classifier import DigitClassifier
from digitlib.compare.kernel import FilterKernel
from digitlib.errors import ParameterError, RunError, plain
from digitlib.files import check_file
from digitlib.recipes import KERNEL, from_dict
from digitlib.scaling import PixelScaler

FUNCTION = "model"  # that a file of the user's is expected to have
ALLOW = "if you trust it, allow it: run_code=True, on the command line --run-code"
# What a kept classifier may hold beside the types that skops itself trusts: classes of honest
# models of scikit-learn, and our own. Never functions: some of those in NumPy execute text.
SAFE = {
    f"{module}.{name}"
    for module, names in {
        "digitlib.classifier": "DigitClassifier",
        "digitlib.compare.competitors": "HardVotes",
        "digitlib.compare.kernel": "FilterKernel",
        "digitlib.recipes": "CompactRecipe Recipe",
        "digitlib.runs": "FoldEnsemble",
        "digitlib.scaling": "PixelScaler",
        "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
        "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
        "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels": "CompoundKernel ConstantKernel DotProduct RBF Matern"
        " ExpSineSquared Exponentiation Product RationalQuadratic Sum WhiteKernel",
        "sklearn.metrics._dist_metrics": "ChebyshevDistance64 EuclideanDistance64"
        " HammingDistance64 ManhattanDistance64 MinkowskiDistance64 SEuclideanDistance64",
        "sklearn.metrics._scorer": "_PassthroughScorer",
        "sklearn.model_selection._search_successive_halving": "HalvingGridSearchCV"
        " HalvingRandomSearchCV",
        "sklearn.model_selection._split": "GroupKFold KFold LeaveOneOut PredefinedSplit"
        " RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedKFold"
        " StratifiedShuffleSplit",
        "sklearn.neighbors._ball_tree": "BallTree BallTree64",
        "sklearn.neighbors._kd_tree": "KDTree KDTree64",
        "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
        "sklearn.tree._tree": "Tree",
        "sklearn.utils._bunch": "Bunch",
    }.items()
    for name in names.split()
}


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
        made = getattr(_module(path), name)(seed)
        if isinstance(made, DigitClassifier):
            made.blank_network()  # a network that cannot work is told at once
    except Exception as error:
        told = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
        line = f", line {told[-1].lineno}" if told else ""
        kind = "" if isinstance(error, ParameterError) else f"{type(error).__name__}: "
        said = str(error).partition("\n")[0]
        raise ParameterError(f"{path}{line}: {kind}{said}") from error
    if isinstance(made, nn.Module):
        remedy = 'return DigitClassifier("coursework", seed, network=...)'
        raise ParameterError(f"{path}: {name}(seed) returned a network; {remedy}")
    if isinstance(made, type) or not hasattr(made, "fit"):
        found = "nothing: is a return missing?" if made is None else type(made).__name__
        raise ParameterError(f"{path}: {name}(seed) returned {found}; it takes a classifier")
    return made


def split_spec(spec):
    """Path and function of ``"my_model.py"`` or ``"my_model.py:name"``; ParameterError if wrong."""
    found = re.fullmatch(r"(.+\.py)(?::(\w+))?", str(spec))
    if not found:
        raise ParameterError(f"model={str(spec)!r}: takes my_model.py or my_model.py:function")
    path, name = Path(found[1]).resolve(), found[2] or FUNCTION
    check_file(path, ParameterError, "model takes the path of a Python file", 1_000_000)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
        raise ParameterError(f"{path}{line}: not Python ({error}); mend it") from None
    if name not in _defined(tree):
        remedy = f"it takes seed and returns a classifier, or name another: {path.name}:function"
        raise ParameterError(f"{path}: has no function {name}; {remedy}")
    return path, name


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


def source_of(spec="", variable="classifier"):
    """Text of the file that makes the classifier: the user's file, or written from a notebook.

    Of a notebook, the last cell that sets `variable` is taken whole, with what it needs of others:
    imports, functions, classes, assignments.

    Parameters
    ----------
    spec : str
        As for :func:`from_file`; empty: from the notebook that runs this.
    variable : str

    Returns
    -------
    str or None
        None outside a notebook.
    """
    if spec:
        path, name = split_spec(spec)
        text = path.read_text(encoding="utf-8")
        return text if name == FUNCTION else f"{text}\n\n{FUNCTION} = {name}\n"
    shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    made, defined = None, {}  # name -> text of the statement, and its names
    for cell in shell.user_ns.get("In", ()) if shell else ():
        text = shell.transform_cell(cell)
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        found = _defined(tree)
        if variable in found:
            made = text, _names(tree)
        else:
            defined |= {
                name: (ast.get_source_segment(text, node), _names(node), node)
                for name, node in found.items()
            }
    if made is None:
        return None
    needed, waiting = set(), [made[1] - {"seed"}]
    while waiting:
        new = (waiting.pop() & defined.keys()) - needed
        needed |= new
        waiting += [defined[name][1] for name in new]
    parts = dict.fromkeys(_whole(defined[name]) for name in defined if name in needed)
    body = textwrap.indent(f"{made[0].strip()}\nreturn {variable}", "    ")
    return "\n".join([*parts, "", "", f"def {FUNCTION}(seed):", body, ""])


def _whole(statement):
    """Text of a statement with the decorators above it."""
    text, _, node = statement
    marks = [f"@{ast.unparse(mark)}" for mark in getattr(node, "decorator_list", ())]
    return "\n".join([*marks, text])


def _names(tree):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _defined(tree):
    """Names that the statements of a module define, each with its statement."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(part.asname or part.name).split(".")[0]: node for part in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name: node for target in targets for name in _names(target)}
    return found


# ---- what a run folder says of it, and keeps -----------------------------------------------------


def facts(classifier):
    """What ``run.json`` says of a classifier: ``recipe`` and ``model``."""
    if isinstance(classifier, DigitClassifier):
        recipe, network = classifier.settings().as_dict(), classifier.network
        if network is None:
            return {"recipe": recipe, "model": {"kind": "recipe", "name": ""}}
        name = getattr(network, "__name__", type(network).__name__)
        return {"recipe": recipe, "model": {"kind": "network", "name": name}}
    usual = FilterKernel(getattr(classifier, "random_state", None)).get_params()
    if type(classifier) is FilterKernel and classifier.get_params() == usual:
        recipe = {"name": KERNEL, "summary": "Ridge regression on fixed random filters."}
        return {"recipe": recipe, "model": {"kind": "recipe", "name": ""}}
    steps = getattr(classifier, "steps", [(None, classifier)])
    name = " + ".join(type(step).__name__ for _, step in steps)
    recipe = {"name": name, "summary": "A classifier of the user's own."}
    return {"recipe": recipe, "model": {"kind": "estimator", "name": name}}


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
        header = {"classes": fitted.classes_.tolist()}
        header |= {"mean": fitted.scaler_.mean_.tolist(), "scale": fitted.scaler_.scale_.tolist()}
        weights, path = fitted.__getstate__()["weights_"], path.with_suffix(".safetensors")
        save_file(weights, path, {name: json.dumps(value) for name, value in header.items()})
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
        types, source = skops.io.get_untrusted_types(file=path), path.with_name("model.py")
        if run.run_code and source.is_file():
            _module(source)
        if run.run_code or SAFE.issuperset(types):
            return skops.io.load(path, trusted=types)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RunError(f"{path}: cannot be read ({said}); train again") from error
    strange = plain(", ".join(sorted(set(types) - SAFE)), 200)
    raise RunError(f"{path}: holds {strange}, which could run code; {ALLOW}")


def _with_weights(classifier, path):
    """The classifier, fitted, with what :func:`keep` wrote: numbers and text, nothing that runs."""
    with safe_open(path, "np") as file:
        header = {name: json.loads(value) for name, value in file.metadata().items()}
        # It has keys, and is no dictionary all the same.
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if any(np.isnan(array).any() for array in weights.values()):
        raise ValueError("holds weights that are no numbers")
    recipe = classifier.settings()
    scaler = PixelScaler(recipe.scaling)
    scaler.mean_, scaler.scale_ = np.array(header["mean"]), np.array(header["scale"])
    state = {"recipe_": recipe, "scaler_": scaler, "classes_": np.array(header["classes"])}
    state |= {"n_features_in_": len(scaler.mean_), "weights_": weights}
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
