"""Gradescope's autograder: a zip that judges each hand-in there, and what runs inside it."""

import json
import os
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from digitlib.errors import ParameterError
from digitlib.files import check_folder, check_target, write_text
from digitlib.handin import colab, render
from digitlib.handin.systems import is_proven
from digitlib.handin.verify import verify

ROOT = "/autograder"  # where Gradescope has everything; DIGITLIB_AUTOGRADER_ROOT moves it
SCRIPTS = ("setup.sh", "run_autograder")  # names that Gradescope asks for


def pack(out="autograder.zip"):
    """Write the zip that a teacher uploads to Gradescope as the assignment's autograder.

    Parameters
    ----------
    out : str or path-like
        A file whose name ends in ``.zip``; its folder is made if missing.

    Returns
    -------
    Path

    Raises
    ------
    ParameterError
        `out` is no name of a zip file, or there is no source to build the package from.
    """
    out = Path(out)
    if out.suffix != ".zip":
        remedy = "give a name such as autograder.zip"
        raise ParameterError(f"out={str(out)!r}: takes a file that ends in .zip; {remedy}")
    check_folder(out.parent, "out").mkdir(parents=True, exist_ok=True)
    check_target(out, "out")
    files = {name: render(f"{name}.j2").encode() for name in SCRIPTS}
    files |= [colab.build_wheel()]  # name and content
    files["requirements.lock"] = (colab.checkout() / "requirements.lock").read_bytes()
    with ZipFile(out, "w") as archive:
        for name, content in files.items():
            entry = ZipInfo(name)  # without the time: the same source gives the same file
            entry.external_attr = (0o100755 if name in SCRIPTS else 0o100644) << 16
            archive.writestr(entry, content, ZIP_DEFLATED)
    return out


def results(verdict):
    """What Gradescope shows of a verdict: each claim is worth one point.

    What cannot be checked, as with an honest model of one's own, costs nothing: its line says so,
    and a person decides. But where another claim does not hold it earns nothing: else an empty
    hand-in, of which nothing can be checked, would be worth something.

    Parameters
    ----------
    verdict : dict
        See :func:`digitlib.handin.verify.verify`.

    Returns
    -------
    dict
        For ``results.json``.
    """
    claims = verdict["claims"]
    wrong = any(line["verdict"] == "does not hold" for line in claims)
    earns = {"holds"} if wrong else {"holds", "cannot be checked"}
    tests = [
        {
            "name": line["claim"],
            "score": int(line["verdict"] in earns),
            "max_score": 1,
            "status": "passed" if line["verdict"] in earns else "failed",
            "output": f"{line['verdict']}: {line['why']}",
            "visibility": "visible",
        }
        for line in claims
    ]
    found = {"tests": tests, "output": f"All in all: {verdict['verdict']}.", "leaderboard": []}
    if is_proven(verdict):
        found["leaderboard"] = [{"name": "accuracy", "value": round(verdict["accuracy"], 4)}]
    return found


def main():
    """Judge the hand-in in ``submission/``; write ``results/results.json``, whole or not at all."""
    root = Path(os.environ.get("DIGITLIB_AUTOGRADER_ROOT", ROOT))
    found = results(verify(root / "submission"))
    write_text(root / "results" / "results.json", json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
