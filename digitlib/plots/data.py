"""Figures of the data and of training."""

import numpy as np
import pandas as pd
import seaborn as sns
from sklearn.decomposition import PCA

from digitlib.plots.shown import INK, PALETTE, WIDTH, bare, canvas, described

__all__ = ["class_counts", "class_means", "examples_by_class", "fold_accuracies", "image_numbers"]
__all__ += ["loss_curves", "neighbour_map", "projection", "scaling_effect"]


def class_counts(y):
    """Bar for each class in `y` (n,), with its count on it."""
    counts = pd.Series(y).value_counts().sort_index()
    ax = canvas(3.2)
    sns.barplot(x=counts.index, y=counts.to_numpy(), color=sns.color_palette(PALETTE)[0], ax=ax)
    ax.bar_label(ax.containers[0], padding=2)
    # Room for the numbers below the frame.
    ax.set(xlabel="digit", ylabel="images", ylim=(0, 1.12 * counts.max()))
    ax.grid(False)  # each bar has its number
    low, high = (f"{counts[digit]} (digit {digit})" for digit in (counts.idxmin(), counts.idxmax()))
    alt = f"How many images each digit has: from {low} to {high}, {counts.sum():,} in all."
    return described(ax, alt, counts.rename_axis("digit").reset_index(name="images"))


def image_numbers(image, label):
    """One `image` (8, 8) twice: as its numbers and as a picture."""
    axes = canvas(3.6, columns=2)
    grid = {"linewidths": 0.5, "linecolor": "lightgrey", "square": True}
    sns.heatmap(image, annot=True, fmt="d", cmap=["white"], cbar=False, ax=axes[0], **grid)
    bare(axes[0], "as numbers")
    show(axes[1], image, "as a picture")
    ink = int((image > 0).sum())
    facts = f"{ink} of {image.size} pixels hold ink, the darkest {image.max()} of 16"
    alt = f"One image of a {label}, as 8 by 8 numbers and as a picture: {facts}."
    return described(axes, alt, pd.DataFrame(image))


def show(ax, image, title=""):
    """Draw one image (rows, columns) as ink on paper."""
    bare(ax, title).imshow(image, cmap=INK, vmin=0, vmax=max(16, image.max()))


def examples_by_class(images, y, per_class=10):
    """The first `per_class` images of each class in `y`, a row for each class."""
    classes = np.unique(y)
    chosen = np.concatenate([np.flatnonzero(y == label)[:per_class] for label in classes])
    rows, columns = images.shape[1:]
    page = np.zeros(
        (len(classes) * (rows + 1), per_class * (columns + 1))
    )  # one picture: a hundred Axes take seconds to draw
    for i, row in enumerate(chosen):
        top, left = i // per_class * (rows + 1), i % per_class * (columns + 1)
        page[top : top + rows, left : left + columns] = images[row]
    ax = canvas(WIDTH * len(classes) / per_class)
    show(ax, page)
    ax.set(
        ylabel="digit",
        yticks=np.arange(len(classes)) * (rows + 1) + rows / 2 - 0.5,
        yticklabels=classes,
        frame_on=False,
    )
    ax.tick_params(labelsize=14, length=0)
    alt = (
        f"Each row shows the first {per_class} images of one digit, from {classes[0]} to"
        f" {classes[-1]}."
    )
    return described(ax, alt, pd.DataFrame({"row": chosen, "label": y[chosen]}))


def class_means(images, y):
    """Mean image and pixel-wise standard deviation of each class."""
    classes = np.unique(y)
    groups = [images[y == label] for label in classes]
    means, spreads = np.stack([g.mean(0) for g in groups]), np.stack([g.std(0) for g in groups])
    axes = canvas(1.7, 2, len(classes))
    for i, label in enumerate(classes):
        show(axes[0, i], means[i], str(label))
        bare(axes[1, i]).imshow(spreads[i], cmap="viridis", vmin=0, vmax=spreads.max())
    axes[0, 0].set_ylabel("mean")
    axes[1, 0].set_ylabel("spread")
    table = pd.DataFrame({"digit": classes, "mean ink": means.mean((1, 2))})
    table["mean spread"] = spreads.mean((1, 2))
    most = table.loc[table["mean spread"].idxmax()]
    widest = f"Digit {most['digit']:.0f} varies most, by {most['mean spread']:.1f} of 16"
    alt = f"The mean image of each digit; below it, where its images differ. {widest} on average."
    return described(axes, alt, table)


def scaling_effect(before, after):
    """Histograms of the pixels of a sample before and after scaling; any shape."""
    axes = canvas(3.1, columns=2)
    for ax, values, name in zip(
        axes, (before, after), ("pixels as stored", "after scaling"), strict=True
    ):
        sns.histplot(x=np.ravel(values).astype(float), bins=40, ax=ax)
        moments = f"mean {np.mean(values):.2f}\nstandard deviation {np.std(values):.2f}"
        ax.set_title(f"{name}:\n{moments}", fontsize=11)
        ax.set(xlabel="value", ylabel="pixels")
    sides = {"before": np.ravel(before), "after": np.ravel(after)}
    table = pd.DataFrame({name: pd.Series(values).describe() for name, values in sides.items()})
    means = f"mean {np.mean(before):.2f} before scaling and {np.mean(after):.2f} after"
    alt = (
        f"Pixel values have {means}. Their standard deviation is {np.std(before):.2f} before and"
        f" {np.std(after):.2f} after."
    )
    return described(axes, alt, table)


def projection(X, y):
    """All images as points on their first two principal components, coloured by class."""
    pca = PCA(2, random_state=0)
    table = pd.DataFrame(pca.fit_transform(X), columns=["component 1", "component 2"])
    ax = _cloud(table.assign(digit=y))
    share = 100 * pca.explained_variance_ratio_.sum()
    alt = (
        f"{len(y):,} images as points. The digits form clouds that overlap: these two components"
        f" show only {share:.0f} % of how the images differ."
    )
    return described(ax, alt, table.assign(digit=y))


def neighbour_map(places, y, predicted=None):
    """All images as points on a map on which neighbours are alike, coloured by class.

    Parameters
    ----------
    places : ndarray of shape (n, 2)
        From :func:`digitlib.data.places_on_map`.
    y : array of shape (n,)
    predicted : array of shape (n,) or None
        Where it differs from `y`, the point gets a ring.
    """
    table = pd.DataFrame(places, columns=["t-SNE 1", "t-SNE 2"]).assign(digit=y)
    ax = _cloud(table)
    ax.set(xticks=[], yticks=[])  # a distance has no unit here
    alt = f"A map of {len(y):,} images: neighbours look alike. Each digit has islands of its own"
    if predicted is None:
        return described(ax, f"{alt}.", table)
    wrong = table[np.asarray(predicted) != y]
    rings = {"s": 60, "facecolors": "none", "edgecolors": "black", "linewidths": 1.2}
    ax.scatter(wrong["t-SNE 1"], wrong["t-SNE 2"], label=f"{len(wrong)} errors", **rings)
    ax.legend(loc="lower right")
    told = f"{alt}. The {len(wrong)} errors have a ring."
    return described(ax, told, table.assign(read=predicted))


def _cloud(table):
    """Points, with the number of each class in its middle; the columns of `table`: x, y, digit."""
    ax, (x, y, _) = canvas(5), table
    dots = {"hue": "digit", "palette": "tab10", "s": 10, "linewidth": 0, "legend": False}
    sns.scatterplot(table.astype({"digit": "category"}), x=x, y=y, ax=ax, **dots)
    box = {"boxstyle": "circle", "fc": "white", "alpha": 0.8}
    name = {"fontsize": 16, "weight": "bold", "ha": "center", "va": "center", "bbox": box}
    for label, middle in table.groupby("digit").mean().iterrows():
        ax.text(*middle, label, **name)
    return ax


# ---- training ------------------------------------------------------------------------------------


def loss_curves(history):
    """Training and held-out loss of every fold against epochs; `history` as in ``history.csv``."""
    table = history.rename(columns={"loss": "training", "held_out_loss": "held out"})
    measured = [rows for rows in ("training", "held out") if rows in table]
    table = table.melt(["fold", "epoch"], measured, "rows", "loss")
    ax = canvas(3.6)
    each = {"hue": "rows", "style": "rows", "units": "fold", "estimator": None, "markers": True}
    sns.lineplot(table, x="epoch", y="loss", ax=ax, **each)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(ylabel="loss", ylim=(0, None))
    ax.legend(title="")
    last = table[table["epoch"] == table["epoch"].max()].groupby("rows", sort=False)["loss"].mean()
    ends = " and ".join(f"{value:.3f} ({rows})" for rows, value in last.items())
    alt = (
        f"How the loss of {table['fold'].nunique()} folds changes from epoch to epoch. After epoch"
        f" {table['epoch'].max()} it is {ends} on average."
    )
    return described(ax, alt, table)


def fold_accuracies(right, folds):
    """Dot for the accuracy of each fold, and their mean; `right` (n,) bool, `folds` (n,)."""
    values = 100 * pd.Series(right).groupby(folds).mean().to_numpy()
    folds = np.arange(1, len(values) + 1).astype(str)
    table = pd.DataFrame({"fold": folds, "accuracy (%)": values})
    ax = canvas(1.2 + 0.28 * len(values))
    sns.stripplot(table, y="fold", x="accuracy (%)", size=9, jitter=False, ax=ax)
    ax.axvline(values.mean(), ls="--", color="grey")
    beside = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
    for i, value in enumerate(values):
        ax.annotate(f"{value:.2f}", (value, i), **beside)
    ax.margins(x=0.15)
    each = ", ".join(f"{value:.2f}" for value in values)
    alt = f"Accuracy of each fold in per cent: {each}. The dashed line is their mean,"
    alt += f" {values.mean():.2f}."
    return described(ax, alt, table)
