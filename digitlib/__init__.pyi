# What type checkers read in place of __init__.py, which loads these names on first use.
from digitlib.classifier import DigitClassifier as DigitClassifier
from digitlib.crossval import cross_validate as cross_validate
from digitlib.data import load_digits as load_digits
from digitlib.handwriting.find import find_digits as find_digits
from digitlib.handwriting.find import prepare_image as prepare_image
from digitlib.runs import load_model as load_model

__version__: str
