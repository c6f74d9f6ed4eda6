"""Did a notebook run from top to bottom without an error? What a hand-in needs, and what a grader
looks at first.
"""

import itertools
import json


def faults(content, name):
    """What is wrong with an executed notebook.

    Parameters
    ----------
    content : bytes
        The ``.ipynb`` file; it is read, never run.
    name : str
        What to call it.

    Returns
    -------
    list of str
        One line per fault; empty if every code cell ran, in order, without an error.
    """
    try:
        cells = json.loads(content)["cells"]
        code = [
            cell
            for cell in cells
            if cell["cell_type"] == "code" and "".join(cell["source"]).strip()
        ]
        counts = [cell["execution_count"] for cell in code]
        errors = [
            (cell, output)
            for cell in code
            for output in cell["outputs"]
            if output["output_type"] == "error"
        ]
        # papermill adds a cell of injected parameters and numbers it like any other.
        said = [
            f"{name}: cell [{cell['execution_count']}] ended in {output['ename']}; mend it and run"
            " again"
            for cell, output in errors
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return [f"{name}: not a readable notebook ({type(error).__name__})"]
    if not code:
        return [f"{name}: no code was run"]
    if not all(isinstance(count, int) for count in counts):
        return [
            *said,
            (
                f"{name}: {sum(not isinstance(count, int) for count in counts)} of {len(code)}"
                " cells were never run; run all of it"
            ),
        ]
    if counts != sorted(set(counts)):
        at = next(count for count, following in itertools.pairwise(counts) if following <= count)
        return [
            *said,
            f"{name}: cells did not run in order (after [{at}]); restart the kernel and run all",
        ]
    return said
