"""Make digitlib/optdigits/map.npy: places of the bundled rows on a map where like lies by like.

Run from the root of a checkout: ``python tools/make_map.py``. It takes about a minute. The same
versions on the same machine give the same file.
"""

from pathlib import Path

import numpy as np
from sklearn.manifold import TSNE

from digitlib import load_digits

TARGET = Path(__file__).parents[1] / "digitlib/optdigits/map.npy"
MOST = 10_000  # the farthest place from the middle, so that two bytes do


def main():
    X = load_digits(return_X_y=True)[0].astype(np.float32)
    # L. van der Maaten and G. Hinton (2008). Visualizing data using t-SNE. JMLR 9.
    places = TSNE(2, perplexity=30, init="pca", random_state=0).fit_transform(X)
    places -= places.mean(axis=0)
    np.save(TARGET, np.rint(places * MOST / np.abs(places).max()).astype(np.int16))
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
