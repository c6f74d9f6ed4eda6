"""Pictures drawn by ourselves, for the notebook and the tests; ``make.py`` draws them."""
