"""One page about a run, in Markdown: a model card, and a checklist in the order of REFORMS.

References
----------
.. [1] M. Mitchell et al. (2019). Model cards for model reporting.
   https://doi.org/10.1145/3287560.3287596
.. [2] S. Kapoor et al. (2024). REFORMS: consensus-based recommendations for machine-learning-based
   science. https://doi.org/10.1126/sciadv.adk3452
"""

from pathlib import Path

import numpy as np

from digitlib import checks, metrics, runs
from digitlib.data import SOURCES, describe_source
from digitlib.reporting.render import fill


def write_card(folder):
    """Write ``card.md`` of a run folder, from its own files alone.

    Parameters
    ----------
    folder : str or path-like
        With ``run.json``, ``predictions.csv``, ``history.csv`` and, if the checks were run,
        ``checks.json``.

    Returns
    -------
    Path

    Raises
    ------
    RunError
        A file is missing or damaged.
    """
    folder = Path(folder)
    run = runs.load(folder, consistent=False)
    right = run.y == run.predicted
    return fill(
        folder / "card.md",
        "card.md.j2",
        info=run.info,
        model=runs.label(run.info),
        summary=runs.summary(run.info),
        source=describe_source(run.info["data"]["source"]),
        published=run.info["data"]["source"] in SOURCES,
        right=int(right.sum()),
        interval=metrics.wilson_interval(right.sum(), len(right)),
        scores=metrics.scores(run.y, run.probabilities, np.unique(run.y))["value"],
        digits=metrics.per_class(run.y, run.predicted).to_dict("index"),
        pairs=metrics.confused_pairs(run.y, run.predicted).head(3).to_dict("records"),
        checks={one["code"]: one for one in checks.read(folder)},
        compared=(folder / "4_compare.ipynb").is_file(),
    )
