"""What every figure shares, and the figures of the data and of training."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "Greys"  # 0 is paper, 16 is ink, as on the form
PALETTE = "colorblind"
WIDTH = 8.0  # inches, the text width of a report


def notebook_style():
    """Set fonts, colours and sizes, and make this notebook's figures sharp and described."""
    sns.set_theme(
        style="whitegrid",
        palette=PALETTE,
        rc={"figure.dpi": 100, "axes.titlesize": "medium", "svg.fonttype": "none"},
    )
    shell = _shell()
    if shell is not None:
        shell.run_line_magic("matplotlib", "inline")
        formatters = shell.display_formatter.formatters
        formatters["image/png"].for_type(Figure, described_png)  # in place of matplotlib's own
        formatters["text/plain"].for_type(
            Figure, lambda figure, printer, cycle: printer.text(getattr(figure, "alt", "figure"))
        )


def _shell():
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def described_png(figure):
    """PNG (bytes) at twice the size it is shown at, and a dictionary of ``width``, ``height`` (in
    CSS pixels) and ``alt``.

    256 colours, or 16 greys as of the data, are enough for every figure here; an SVG of the same
    figures is larger still.
    """
    from PIL import Image

    # Drawn once: saving with a tight box would draw it twice, and every figure here lays itself out
    # within its edges. A page full of errors is taller than a screen by far; at twice the size it
    # would weigh megabytes.
    zoom = 2 if figure.get_figheight() * figure.dpi < 3000 else 1
    figure.set_dpi(zoom * figure.dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    picture = Image.fromarray(pixels).convert("RGB")
    small = io.BytesIO()
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    few = (
        picture.convert("L").quantize(16)
        if grey
        else picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    )
    few.save(small, "png", optimize=True)
    facts = {
        "width": picture.width // zoom,
        "height": picture.height // zoom,
        "alt": getattr(figure, "alt", ""),
    }
    return small.getvalue(), facts


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


# ---- the data ------------------------------------------------------------------------------------


def class_counts(y):
    """Bar for each class in `y` (n,), with its count on it."""
    counts = pd.Series(y).value_counts().sort_index()
    _, ax = plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")
    sns.barplot(x=counts.index, y=counts.to_numpy(), color=sns.color_palette(PALETTE)[0], ax=ax)
    ax.bar_label(ax.containers[0], padding=2)
    ax.set(xlabel="digit", ylabel="images")
    ax.grid(False, axis="x")
    ends = (
        f"from {counts.min()} (digit {counts.idxmin()}) to {counts.max()} (digit {counts.idxmax()})"
    )
    alt = f"Bar chart of images per digit: {ends}, {counts.sum():,} in all."
    return described(ax, alt, counts.rename_axis("digit").reset_index(name="images"))


def image_numbers(image, label):
    """One `image` (8, 8) twice: as its numbers and as a picture."""
    _, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6), layout="constrained")
    sns.heatmap(
        image,
        annot=True,
        fmt="d",
        cmap=["white"],
        cbar=False,
        linewidths=0.5,
        linecolor="lightgrey",
        square=True,
        ax=axes[0],
    )
    axes[0].set_title("as numbers")
    show(axes[1], image, "as a picture")
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    ink = int((image > 0).sum())
    facts = f"{ink} of {image.size} pixels hold ink, the darkest {image.max()} of 16"
    alt = f"An image labelled {label}, as an 8 by 8 table of numbers and as a picture: {facts}."
    return described(axes, alt, pd.DataFrame(image))


def show(ax, image, title=""):
    """Draw one image (rows, columns) as ink on paper."""
    ax.imshow(image, cmap=INK, vmin=0, vmax=max(16, image.max()))
    ax.set_title(title)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


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
    _, ax = plt.subplots(figsize=(WIDTH, WIDTH * len(classes) / per_class), layout="constrained")
    show(ax, page)
    ax.set(
        yticks=np.arange(len(classes)) * (rows + 1) + rows / 2 - 0.5,
        yticklabels=classes,
        frame_on=False,
    )
    ax.tick_params(labelsize=14, length=0)
    alt = (
        f"{per_class} examples of each digit from {classes[0]} to {classes[-1]}, one row for each"
        " digit."
    )
    return described(ax, alt, pd.DataFrame({"row": chosen, "label": y[chosen]}))


def class_means(images, y):
    """Mean image and pixel-wise standard deviation of each class."""
    classes = np.unique(y)
    groups = [images[y == label] for label in classes]
    means, spreads = np.stack([g.mean(0) for g in groups]), np.stack([g.std(0) for g in groups])
    _, axes = plt.subplots(2, len(classes), figsize=(WIDTH, 2.4), layout="constrained")
    for i, label in enumerate(classes):
        show(axes[0, i], means[i], str(label))
        axes[1, i].imshow(spreads[i], cmap="viridis", vmin=0, vmax=spreads.max())
        axes[1, i].set(xticks=[], yticks=[])
        axes[1, i].grid(False)
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
    _, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.8), layout="constrained")
    for ax, values, name in (
        (axes[0], before, "pixels as stored"),
        (axes[1], after, "after scaling"),
    ):
        sns.histplot(x=np.ravel(values).astype(float), bins=40, ax=ax)
        ax.set(
            title=f"{name}:\nmean {np.mean(values):.2f}, standard deviation {np.std(values):.2f}",
            xlabel="value",
            ylabel="pixels",
        )
    table = pd.DataFrame(
        {
            "before": pd.Series(np.ravel(before)).describe(),
            "after": pd.Series(np.ravel(after)).describe(),
        }
    )
    means = f"mean {np.mean(before):.2f} before scaling and {np.mean(after):.2f} after"
    alt = (
        f"Histograms of pixel values: {means}; standard deviation {np.std(before):.2f} and"
        f" {np.std(after):.2f}."
    )
    return described(axes, alt, table)


def projection(X, y):
    """All images as points on their first two principal components, coloured by class."""
    from sklearn.decomposition import PCA

    pca = PCA(2, random_state=0)
    table = pd.DataFrame(pca.fit_transform(X), columns=["component 1", "component 2"]).assign(
        digit=pd.Categorical(y)
    )
    _, ax = plt.subplots(figsize=(WIDTH, 5), layout="constrained")
    sns.scatterplot(
        table,
        x="component 1",
        y="component 2",
        hue="digit",
        palette="tab10",
        s=10,
        linewidth=0,
        ax=ax,
    )
    for label, centre in table.groupby("digit", observed=True).mean().iterrows():
        ax.text(
            *centre,
            label,
            fontsize=16,
            weight="bold",
            ha="center",
            va="center",
            bbox={"boxstyle": "circle", "fc": "white", "alpha": 0.8},
        )
    ax.legend(title="digit", ncols=2)
    share = 100 * pca.explained_variance_ratio_.sum()
    held = f"which hold {share:.0f} % of the variance"
    alt = (
        f"{len(y):,} images on their first two principal components, {held}; the digits form clouds"
        " that overlap."
    )
    return described(ax, alt, table)


# ---- training ------------------------------------------------------------------------------------


def loss_curves(history):
    """Training and held-out loss of every fold against epochs; `history` as in ``history.csv``."""
    table = history.rename(columns={"loss": "training", "held_out_loss": "held out"}).melt(
        ["fold", "epoch"],
        [c for c in ("training", "held out") if c in ("training",) or "held_out_loss" in history],
        "rows",
        "loss",
    )
    _, ax = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    sns.lineplot(
        table,
        x="epoch",
        y="loss",
        hue="rows",
        style="rows",
        units="fold",
        estimator=None,
        markers=True,
        ax=ax,
    )
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(ylabel="loss", ylim=(0, None))
    ax.legend(title="")
    last = table[table["epoch"] == table["epoch"].max()].groupby("rows", sort=False)["loss"].mean()
    ends = " and ".join(f"{value:.3f} ({rows})" for rows, value in last.items())
    alt = (
        f"Loss of each of {table['fold'].nunique()} folds against epochs; after epoch"
        f" {table['epoch'].max()} it is {ends} on average."
    )
    return described(ax, alt, table)


def learning_rate(history):
    """Learning rate against epochs."""
    table = history[["epoch", "learning_rate"]].drop_duplicates()
    _, ax = plt.subplots(figsize=(WIDTH, 2.4), layout="constrained")
    sns.lineplot(table, x="epoch", y="learning_rate", marker="o", ax=ax)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(ylabel="learning rate", ylim=(0, None))
    first, last = table["learning_rate"].iloc[[0, -1]]
    return described(
        ax,
        f"Learning rate against epochs, from {first:.2g} in the first to {last:.2g} in the last.",
        table,
    )


def fold_accuracies(accuracies):
    """Dot for the accuracy (0..1) of each fold, and their mean."""
    values = 100 * np.asarray(accuracies)
    table = pd.DataFrame(
        {"fold": np.arange(1, len(values) + 1).astype(str), "accuracy (%)": values}
    )
    _, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.28 * len(values)), layout="constrained")
    sns.stripplot(table, y="fold", x="accuracy (%)", size=9, jitter=False, ax=ax)
    ax.axvline(values.mean(), ls="--", color="grey")
    for i, value in enumerate(values):
        ax.annotate(
            f"{value:.2f}",
            (value, i),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    ax.margins(x=0.15)
    each = ", ".join(f"{value:.2f}" for value in values)
    return described(
        ax, f"Accuracy of each fold in per cent: {each}; mean {values.mean():.2f}.", table
    )
