"""Near copies: which two hand-ins of a class are too much alike to be runs of two people."""

import numpy as np

# How near honest runs of different seeds never are (docs/grader.md): half the sum of differences of
# probabilities, mean over rows.
NEAR = 0.001


def compare(verdict, own, known):
    """Note in a verdict, and in the others, which hand-ins are nearest and which near copies.

    Parameters
    ----------
    verdict : dict
    own : ndarray or None
        Its probabilities; None if there is no run.
    known : list of tuple
        Verdict and probabilities of those compared before.
    """
    for other, theirs in known:
        if own is None or theirs is None or own.shape != theirs.shape:
            continue
        distance = float(np.abs(own - theirs).sum(axis=1).mean() / 2)
        alike = verdict["settings"] == other["settings"]
        for one, two in ((verdict, other), (other, verdict)):
            if one["distance"] is None or distance < one["distance"]:
                one |= {"nearest": two["path"], "distance": distance}
            if alike and distance < NEAR:
                one["alike"].append(two["path"])
            elif distance < NEAR:
                said = f"near copy: probabilities differ by {distance:.2g}"
                one["notes"].append(f"{two['student'] or two['path']}: {said}")
