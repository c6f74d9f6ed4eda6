"""How good, and how sure is that? Arrays in, small tables out."""

import numpy as np
import pandas as pd


def confusion_counts(y_true, y_predicted):
    """Confusion matrix, by torchmetrics.

    Parameters
    ----------
    y_true, y_predicted : array of shape (n,)
        Labels.

    Returns
    -------
    DataFrame of shape (n_classes, n_classes), int64
        True class in rows, predicted class in columns.
    """
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    classes = np.union1d(y_true, y_predicted)
    true, predicted = (torch.from_numpy(np.searchsorted(classes, np.asarray(y))) for y in (y_true, y_predicted))
    counts = multiclass_confusion_matrix(predicted, true, num_classes=max(2, len(classes)))[: len(classes), : len(classes)]
    return pd.DataFrame(counts.numpy(), index=pd.Index(classes, name="true"), columns=pd.Index(classes, name="predicted"))


def per_class(y_true, y_predicted):
    """Precision, recall, F1 (0..1) and support of each class, by scikit-learn; a class never predicted has precision 0."""
    from sklearn.metrics import precision_recall_fscore_support

    classes = np.union1d(y_true, y_predicted)
    values = precision_recall_fscore_support(y_true, y_predicted, labels=classes, zero_division=0)
    return pd.DataFrame(dict(zip(("precision", "recall", "F1", "support"), values, strict=True)), index=pd.Index(classes, name="digit"))


def per_fold(y_true, probabilities, folds, classes):
    """Correct, total, accuracy (0..1) and log-loss of each fold, and of all rows together (last line, "all")."""
    from sklearn.metrics import log_loss

    predicted = classes[probabilities.argmax(axis=1)]
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)  # float32 rows sum to 1 within 1e-7 only
    rows = []
    for name, chosen in [*((str(k), folds == k) for k in np.unique(folds)), ("all", np.full(len(folds), True))]:
        correct = int((predicted == y_true)[chosen].sum())
        loss = log_loss(y_true[chosen], probabilities[chosen], labels=classes)
        rows.append({"fold": name, "correct": correct, "total": int(chosen.sum()), "accuracy": correct / chosen.sum(), "loss": loss})
    return pd.DataFrame(rows).set_index("fold")


def confused_pairs(y_true, y_predicted):
    """Errors by kind, the most frequent first: ``true``, ``predicted``, ``count``."""
    wrong = np.asarray(y_true) != np.asarray(y_predicted)
    pairs = pd.DataFrame({"true": np.asarray(y_true)[wrong], "predicted": np.asarray(y_predicted)[wrong]})
    return (
        pairs.value_counts(sort=False)
        .reset_index()
        .sort_values(["count", "true", "predicted"], ascending=[False, True, True], ignore_index=True)
    )
