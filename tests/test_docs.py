"""What the documents promise: types, examples that run, figures that were measured, a whole site."""

import inspect
import re

from conftest import ROOT

import digitlib

PUBLIC = [name for name in digitlib.__all__ if name != "__version__"]


def test_type_checkers_see_every_public_name_and_each_function_has_types():
    seen = re.findall(r"import (\w+) as \1\n", (ROOT / "digitlib" / "__init__.pyi").read_text())
    assert sorted(seen) == sorted(PUBLIC)
    fitted = digitlib.DigitClassifier
    functions = [getattr(digitlib, name) for name in PUBLIC if name != fitted.__name__]
    functions += [fitted.fit, fitted.predict, fitted.predict_proba, fitted.save, fitted.load]
    for function in functions:
        facts = inspect.signature(function)
        untyped = [
            name
            for name, one in facts.parameters.items()
            if one.annotation is one.empty and name != "self"
        ]
        assert not untyped and facts.return_annotation is not facts.empty, function.__qualname__
