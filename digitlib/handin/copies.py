"""Near copies: which two hand-ins of a class are too much alike to be runs of two people."""

import hashlib

import numpy as np
from safetensors.numpy import load_file

# How near honest runs of different seeds never are (docs/grader.md): half the sum of differences of
# probabilities, mean over rows; distance of weights, relative to their size; and share of
# errors, row and digit, that both make, if there are a few: it shows copies with units reordered.
NEAR, NEAR_WEIGHTS = 0.001, 0.1
SAME_ERRORS, FEW = 0.85, 20
MAX_WEIGHTS = 50_000  # of a hand-in that are compared, spread over all


def fingerprint(run):
    """What copies of a run are found by.

    Parameters
    ----------
    run : Run

    Returns
    -------
    dict of str to ndarray
        ``p`` probabilities, ``w`` some of the weights, ``digest`` of all weights, ``wrong`` errors:
        row and digit as one number.
    """
    flat = [np.empty(0, np.float32)]
    for name in run.model_files:  # no further file, which would move all weights to other places
        try:
            tensors = sorted(load_file(run.path / name).items())
            flat += [tensor.astype(np.float32).ravel() for _, tensor in tensors]
        except Exception:  # a line of the verdict says what is wrong with it
            continue
    weights = np.concatenate(flat)
    digest = np.frombuffer(hashlib.sha256(weights.tobytes()).digest(), np.uint8)
    step = max(1, len(weights) // MAX_WEIGHTS)
    wrong = (run.row * 10 + run.predicted)[run.predicted != run.y]
    found = {"p": run.probabilities.astype(np.float32), "w": weights[::step], "digest": digest}
    return found | {"wrong": wrong}


def compare(verdict, own, known):
    """Note in a verdict, and in the others, which hand-ins are nearest and which near copies.

    Parameters
    ----------
    verdict : dict
    own : dict of str to ndarray
        Its :func:`fingerprint`; empty if there is no run.
    known : list of tuple
        Verdict and fingerprint of those compared before.
    """
    for other, theirs in known:
        if not own or not theirs or own["p"].shape != theirs["p"].shape:
            continue
        distance = float(np.abs(own["p"] - theirs["p"]).sum(axis=1).mean() / 2)
        weights = _apart(own["w"], theirs["w"])
        same = np.array_equal(own["digest"], theirs["digest"])
        alike, said = verdict["settings"] == other["settings"], ""
        errors = np.union1d(own["wrong"], theirs["wrong"]).size
        common = np.intersect1d(own["wrong"], theirs["wrong"]).size
        if same:
            said = "the same weights, though other settings or another seed are stated"
        elif common > SAME_ERRORS * max(errors, FEW):
            said = f"near copy: {common} of {errors} errors, row and digit, are the same"
        elif distance < NEAR or weights < NEAR_WEIGHTS:
            said = f"near copy: probabilities differ by {distance:.2g}, weights by {weights:.2g}"
            said += "; the same settings on another machine may end as near" if alike else ""
        for one, two in ((verdict, other), (other, verdict)):
            if one["distance"] is None or distance < one["distance"]:
                one |= {"nearest": two["path"], "distance": distance}
            if same and alike and distance == 0:
                one["alike"].append(two["path"])
            elif said:
                one["identical_to"].append(f"{two['path']} ({said})")
                one["notes"].append(f"{two['student'] or two['path']}: {said}")


def _apart(one, other):
    """Distance of weights, relative to their size; infinite between different networks.

    Medians: counters and sums that stand among the weights are large, and the same for all seeds.
    """
    if one.shape != other.shape or not len(one):
        return float("inf")
    return float(np.nanmedian(np.abs(one - other)) / (np.nanmedian(np.abs(one)) or 1.0))
