"""What every figure shares, and the figures of the data and of training."""

import io
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

__all__ = [
    "INK",
    "PALETTE",
    "WIDTH",
    "alt_text",
    "class_counts",
    "class_means",
    "described",
    "examples_by_class",
    "fold_accuracies",
    "image_numbers",
    "learning_rate",
    "loss_curves",
    "notebook_style",
    "numbers",
    "projection",
    "scaling_effect",
]

INK = "Greys"  # 0 is paper, 16 is ink, as on the form
PALETTE = "colorblind"
WIDTH = 8.0  # inches, the text width of a report
CENTRED = {"ha": "center", "va": "center"}
MEAN_LINE = {"ls": "--", "color": "grey"}


def notebook_style():
    """Set fonts, colours and sizes, and make this notebook's figures sharp and described."""
    sizes = {"figure.dpi": 100, "axes.titlesize": "medium", "svg.fonttype": "none"}
    sns.set_theme(style="whitegrid", palette=PALETTE, rc=sizes)
    ipython = sys.modules.get("IPython")  # loaded already wherever there is a notebook
    shell = ipython and ipython.get_ipython()
    if shell is not None:
        shell.run_line_magic("matplotlib", "inline")
        formatters = shell.display_formatter.formatters
        formatters["image/png"].for_type(Figure, described_png)  # in place of matplotlib's own
        formatters["text/plain"].for_type(
            Figure, lambda figure, printer, cycle: printer.text(getattr(figure, "alt", "figure"))
        )


def described_png(figure):
    """The figure as PNG, at twice the size it is shown at, and what the page has to know of it.

    256 colours, or 16 greys as of the data, are enough for every figure here; an SVG of the same
    figures is larger still.

    Returns
    -------
    bytes, dict
        The dictionary has ``width``, ``height`` (in CSS pixels) and ``alt``.
    """
    # Drawn once: saving with a tight box would draw it twice, and every figure here lays itself out
    # within its edges. A page full of errors is taller than a screen by far; at twice the size it
    # would weigh megabytes.
    zoom = 2 if figure.get_figheight() * figure.dpi < 3000 else 1
    figure.set_dpi(zoom * figure.dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    picture = Image.fromarray(pixels)
    if (pixels == pixels[..., :1]).all():
        few = picture.convert("L").quantize(16)
    else:
        few = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small = io.BytesIO()
    few.save(small, "png", optimize=True)
    size = {"width": picture.width // zoom, "height": picture.height // zoom}
    return small.getvalue(), {**size, "alt": getattr(figure, "alt", "")}


def described(axes, alt, data):
    """Give the figure of `axes` its alt text and its numbers; return `axes`."""
    figure = np.ravel(axes)[0].figure
    figure.alt, figure.numbers = alt, data
    return axes


def alt_text(axes):
    """What the picture says, in one or two sentences."""
    return np.ravel(axes)[0].figure.alt


def numbers(axes):
    """The DataFrame behind the picture."""
    return np.ravel(axes)[0].figure.numbers


# ---- what figures are made of --------------------------------------------------------------------


def new_axes(height, rows=1, columns=1, width=WIDTH, **options):
    """Axes of a new figure of so many inches, laid out within its edges.

    One Axes, or an array of them where `rows` or `columns` ask for several; `options` as for
    ``plt.subplots``.
    """
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **options)[1]


def show(ax, image, title="", cmap=INK, low=0, high=None, **text):
    """Draw one image (rows, columns) without ticks, by default as ink on paper.

    `low` and `high` are the values at the ends of the colour map, `high` at least 16 unless given;
    `text` is style of the title. Returns what a colour bar asks for.
    """
    high = max(16, image.max()) if high is None else high
    drawn = ax.imshow(image, cmap=cmap, vmin=low, vmax=high)
    ax.set_title(title, **text)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    return drawn


def whiskers(values, low, high):
    """Lengths below and above each value, for ``errorbar``.

    Rounding can put the end of an interval a hair inside its point.
    """
    return [(values - low).clip(0), (high - values).clip(0)]


def colour(number):
    """The colour with this number, from 0, in the palette of every figure."""
    return sns.color_palette(PALETTE)[number]


# ---- the data ------------------------------------------------------------------------------------


def class_counts(y):
    """Bar for each class in `y` (n,), with its count on it."""
    counts = pd.Series(y).value_counts().sort_index()
    ax = new_axes(3.2)
    sns.barplot(x=counts.index, y=counts.to_numpy(), color=colour(0), ax=ax)
    ax.bar_label(ax.containers[0], padding=2)
    ax.set(xlabel="digit", ylabel="images")
    ax.grid(False, axis="x")
    few = f"from {counts.min()} (digit {counts.idxmin()})"
    many = f"to {counts.max()} (digit {counts.idxmax()})"
    alt = f"Bar chart of images per digit: {few} {many}, {counts.sum():,} in all."
    return described(ax, alt, counts.rename_axis("digit").reset_index(name="images"))


def image_numbers(image, label):
    """One `image` (8, 8) twice: as its numbers and as a picture."""
    axes = new_axes(3.6, columns=2)
    lines = {"linewidths": 0.5, "linecolor": "lightgrey", "square": True}
    plain = {"cmap": ["white"], "cbar": False, "xticklabels": False, "yticklabels": False}
    sns.heatmap(image, annot=True, fmt="d", ax=axes[0], **lines, **plain)
    axes[0].set_title("as numbers")
    show(axes[1], image, "as a picture")
    ink = int((image > 0).sum())
    facts = f"{ink} of {image.size} pixels hold ink, the darkest {image.max()} of 16"
    alt = f"An image labelled {label}, as an 8 by 8 table of numbers and as a picture: {facts}."
    return described(axes, alt, pd.DataFrame(image))


def examples_by_class(images, y, per_class=10):
    """The first `per_class` images of each class in `y`, a row for each class."""
    classes = np.unique(y)
    chosen = np.concatenate([np.flatnonzero(y == label)[:per_class] for label in classes])
    rows, columns = images.shape[1:]
    # One picture: a hundred Axes take seconds to draw.
    page = np.zeros((len(classes) * (rows + 1), per_class * (columns + 1)))
    for i, row in enumerate(chosen):
        top, left = i // per_class * (rows + 1), i % per_class * (columns + 1)
        page[top : top + rows, left : left + columns] = images[row]
    ax = new_axes(WIDTH * len(classes) / per_class)
    show(ax, page)
    middles = np.arange(len(classes)) * (rows + 1) + rows / 2 - 0.5
    ax.set(yticks=middles, yticklabels=classes, frame_on=False)
    ax.tick_params(labelsize=14, length=0)
    which = f"each digit from {classes[0]} to {classes[-1]}"
    alt = f"{per_class} examples of {which}, one row for each digit."
    return described(ax, alt, pd.DataFrame({"row": chosen, "label": y[chosen]}))


def class_means(images, y):
    """Mean image and pixel-wise standard deviation of each class."""
    classes = np.unique(y)
    groups = [images[y == label] for label in classes]
    means, spreads = np.stack([g.mean(0) for g in groups]), np.stack([g.std(0) for g in groups])
    axes = new_axes(2.4, 2, len(classes))
    for i, label in enumerate(classes):
        show(axes[0, i], means[i], str(label))
        show(axes[1, i], spreads[i], cmap="viridis", high=spreads.max())
    axes[0, 0].set_ylabel("mean")
    axes[1, 0].set_ylabel("spread")
    table = pd.DataFrame(
        {"digit": classes, "mean ink": means.mean((1, 2)), "mean spread": spreads.mean((1, 2))}
    )
    most = table.loc[table["mean spread"].idxmax()]
    widest = f"digit {most['digit']:.0f} varies most, by {most['mean spread']:.1f} of 16 on average"
    alt = f"Mean image of each digit above its pixel-wise standard deviation; {widest}."
    return described(axes, alt, table)


def scaling_effect(before, after):
    """Histograms of the pixels of a sample before and after scaling; any shape."""
    axes = new_axes(2.8, columns=2)
    parts = {"pixels as stored": before, "after scaling": after}
    for ax, (name, values) in zip(axes, parts.items(), strict=True):
        sns.histplot(x=np.ravel(values).astype(float), bins=40, ax=ax)
        facts = f"mean {np.mean(values):.2f}, standard deviation {np.std(values):.2f}"
        ax.set(title=f"{name}:\n{facts}", xlabel="value", ylabel="pixels")
    columns = {"before": before, "after": after}
    table = pd.DataFrame({n: pd.Series(np.ravel(v)).describe() for n, v in columns.items()})
    means = f"mean {np.mean(before):.2f} before scaling and {np.mean(after):.2f} after"
    spreads = f"standard deviation {np.std(before):.2f} and {np.std(after):.2f}"
    return described(axes, f"Histograms of pixel values: {means}; {spreads}.", table)


def projection(X, y):
    """All images as points on their first two principal components, coloured by class."""
    from sklearn.decomposition import PCA  # a fifth of a second that one notebook of five needs

    pca, names = PCA(2, random_state=0), ["component 1", "component 2"]
    table = pd.DataFrame(pca.fit_transform(X), columns=names).assign(digit=pd.Categorical(y))
    ax = new_axes(5)
    style = {"palette": "tab10", "s": 10, "linewidth": 0}
    sns.scatterplot(table, x=names[0], y=names[1], hue="digit", ax=ax, **style)
    disc = {"boxstyle": "circle", "fc": "white", "alpha": 0.8}
    for label, centre in table.groupby("digit", observed=True).mean().iterrows():
        ax.text(*centre, label, fontsize=16, weight="bold", bbox=disc, **CENTRED)
    ax.legend(title="digit", ncols=2)
    held = f"which hold {100 * pca.explained_variance_ratio_.sum():.0f} % of the variance"
    what = f"{len(y):,} images on their first two principal components, {held}"
    return described(ax, f"{what}; the digits form clouds that overlap.", table)


# ---- training ------------------------------------------------------------------------------------


def loss_curves(history):
    """Training and held-out loss of every fold against epochs; `history` as in ``history.csv``."""
    losses = history.rename(columns={"loss": "training", "held_out_loss": "held out"})
    measured = [name for name in ("training", "held out") if name in losses]
    table = losses.melt(["fold", "epoch"], measured, "rows", "loss")
    ax = new_axes(3.6)
    each = {"hue": "rows", "style": "rows", "units": "fold", "estimator": None}
    sns.lineplot(table, x="epoch", y="loss", markers=True, ax=ax, **each)
    _epochs_from_zero(ax, "loss")
    ax.legend(title="")
    last = table[table["epoch"] == table["epoch"].max()].groupby("rows", sort=False)["loss"].mean()
    ends = " and ".join(f"{value:.3f} ({rows})" for rows, value in last.items())
    what = f"Loss of each of {table['fold'].nunique()} folds against epochs"
    alt = f"{what}; after epoch {table['epoch'].max()} it is {ends} on average."
    return described(ax, alt, table)


def learning_rate(history):
    """Learning rate against epochs."""
    table = history[["epoch", "learning_rate"]].drop_duplicates()
    ax = new_axes(2.4)
    sns.lineplot(table, x="epoch", y="learning_rate", marker="o", ax=ax)
    _epochs_from_zero(ax, "learning rate")
    first, last = table["learning_rate"].iloc[[0, -1]]
    ends = f"from {first:.2g} in the first to {last:.2g} in the last"
    return described(ax, f"Learning rate against epochs, {ends}.", table)


def _epochs_from_zero(ax, name):
    """Whole epochs along, `name` upwards from 0."""
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(ylabel=name, ylim=(0, None))


def fold_accuracies(accuracies):
    """Dot for the accuracy (0..1) of each fold, and their mean."""
    values = 100 * np.asarray(accuracies)
    folds = np.arange(1, len(values) + 1).astype(str)
    table = pd.DataFrame({"fold": folds, "accuracy (%)": values})
    ax = new_axes(1.2 + 0.28 * len(values))
    sns.stripplot(table, y="fold", x="accuracy (%)", size=9, jitter=False, ax=ax)
    ax.axvline(values.mean(), **MEAN_LINE)
    beside = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
    for i, value in enumerate(values):
        ax.annotate(f"{value:.2f}", (value, i), **beside)
    ax.margins(x=0.15)
    each = ", ".join(f"{value:.2f}" for value in values)
    alt = f"Accuracy of each fold in per cent: {each}; mean {values.mean():.2f}."
    return described(ax, alt, table)
