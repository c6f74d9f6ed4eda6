"""Scores and tests agree with other libraries, or with what is known by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import t as student
from scipy.stats import ttest_1samp
from sklearn import metrics as sk
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from digitlib import metrics
from digitlib.compare import paired

CLASSES = np.arange(10)


@pytest.fixture(scope="module")
def judged():
    """Labels and probabilities of an imperfect classifier, 700 rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 700)
    return y, softmax(rng.normal(size=(700, 10)) + 3 * np.eye(10)[y], axis=1)


@pytest.mark.parametrize(("correct", "total"), [(5514, 5620), (0, 20), (20, 20), (1, 3)])
def test_wilson_agrees_with_statsmodels(correct, total):
    assert metrics.wilson_interval(correct, total) == pytest.approx(
        proportion_confint(correct, total, method="wilson"), abs=1e-12
    )


def test_folds_agree_with_scikit_learn(judged):
    y, p = judged
    folds = np.arange(len(y)) % 4 + 1
    table = metrics.per_fold(y, p, folds, CLASSES)
    for name, rows in [*((str(k), folds == k) for k in range(1, 5)), ("all", folds > 0)]:
        found = table.loc[name]
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(y[rows], p[rows].argmax(1)))
        assert found["loss"] == pytest.approx(sk.log_loss(y[rows], p[rows], labels=CLASSES))
        interval = proportion_confint(found["correct"], rows.sum(), method="wilson")
        assert tuple(found[["low", "high"]]) == pytest.approx(interval)


def test_scores_agree_with_scikit_learn(judged):
    y, p = judged
    found = metrics.scores(y, p, CLASSES)["value"]
    assert found["log-loss"] == pytest.approx(sk.log_loss(y, p))
    assert found["Brier score"] == pytest.approx(sk.brier_score_loss(y, p, scale_by_half=False))
    assert found["top-2 accuracy"] == pytest.approx(sk.top_k_accuracy_score(y, p, k=2))


def test_calibration_error_is_the_weighted_distance_of_the_bins(judged):
    rows = metrics.judged_rows(*judged, CLASSES)
    bins = rows.groupby(pd.cut(rows["probability"], np.linspace(0, 1, 16)), observed=True)
    by_hand = (bins["probability"].sum() - bins["right"].sum()).abs().sum() / 700
    assert metrics.calibration_error(*judged, CLASSES) == pytest.approx(by_hand, abs=1e-6)


def test_calibrated_is_told_from_overconfident():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(10, 0.3), 4000)
    # Drawn from the very probabilities: perfectly calibrated.
    y = rng.multinomial(1, p).argmax(axis=1)
    honest = metrics.scores(y, p, CLASSES).loc["calibration error"]
    sharper = p**4 / (p**4).sum(1, keepdims=True)
    boastful = metrics.scores(y, sharper, CLASSES).loc["calibration error"]
    assert honest["low"] <= honest["value"] <= honest["high"]
    assert boastful["value"] > boastful["high"]


def test_classes_never_predicted_or_never_seen():
    table = metrics.per_class([0, 0, 1], [0, 0, 2])
    assert table.loc[1, "recall"] == 0
    assert table.loc[2, "support"] == 0
    assert (table["recall low"] <= table["recall"]).all()


def test_confusions_are_counted_by_true_and_predicted_digit():
    counts = metrics.confusion_counts([0, 0, 0, 1], [0, 1, 1, 1])
    assert counts.to_numpy().tolist() == [[1, 2], [0, 1]]
    pairs = metrics.confused_pairs([3, 3, 8, 8, 1], [8, 3, 3, 3, 7])
    assert pairs.to_numpy().tolist() == [[8, 3, 2], [1, 7, 1], [3, 8, 1]]


def test_swapped_labels_are_suspect(judged):
    y, _ = judged
    rng = np.random.default_rng(2)
    p = softmax(rng.normal(size=(len(y), 10)) + 9 * np.eye(10)[y], axis=1)
    wrong = np.r_[(y[:7] + 3) % 10, y[7:]]
    suspects = metrics.label_suspects(wrong, p, CLASSES)
    assert set(range(7)) <= set(suspects.index[:9])
    assert (suspects.loc[range(7), "suggestion"] == y[:7]).all()


def test_judged_rows(judged):
    y, p = judged
    table, ranked = metrics.judged_rows(y, p, CLASSES), np.sort(p, axis=1)
    assert (table["predicted"] == p.argmax(1)).all()
    assert (table["margin"] == ranked[:, -1] - ranked[:, -2]).all()
    assert (table["right"] == (p.argmax(1) == y)).all()


# ---- when to trust an answer ---------------------------------------------------------------------


def test_the_surest_are_answered_first_and_all_mistakes_are_counted(judged):
    y, p = judged
    table = metrics.answered(y, p, CLASSES, shares=(1, 0.5, 0.01))
    surest = np.argsort(-p.max(axis=1))[:350]
    assert table["answered"].tolist() == [700, 350, 7] and table["left"].tolist() == [0, 350, 693]
    assert table.loc[0, "errors"] == (p.argmax(axis=1) != y).sum()
    assert table.loc[1, "errors"] == (p[surest].argmax(axis=1) != y[surest]).sum()
    assert table.loc[1, "least sure"] == p[surest].max(axis=1).min()
    assert table["accuracy"].is_monotonic_increasing


def test_conformal_sets_keep_their_promise_on_rows_of_the_same_kind_and_not_on_others():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(10, 0.2), 8000)
    y = rng.multinomial(1, p).argmax(axis=1)
    groups = np.arange(8000) % 4
    for promise in (0.8, 0.95):
        table = metrics.conformal(y, p, CLASSES, groups, promise)
        error = (promise * (1 - promise) * (1 / 2000 + 1 / 6000)) ** 0.5
        assert ((table["coverage"] - promise).abs() < 4 * error).all()
        assert (table[["empty", "one", "several"]].sum(axis=1) == table["images"]).all()
    # Rows of the last group are read badly: sets calibrated on the others hold too little.
    strange = np.where((groups == 3)[:, None], np.roll(p, 1, axis=1), p)
    assert metrics.conformal(y, strange, CLASSES, groups, 0.95).loc[3, "high"] < 0.95


def test_the_conformal_threshold_is_the_one_of_the_textbook():
    own = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    p = np.r_[np.c_[own, 1 - own], [[0.55, 0.45]]]
    groups = np.array([0] * 5 + [1])
    options = {"y_true": np.zeros(6, int), "probabilities": p, "classes": CLASSES[:2]}
    # ceil((5 + 1) * 0.5) = 3: the third of the five, the most probable first.
    assert metrics.conformal(groups=groups, promise=0.5, **options).loc[1, "threshold"] == 0.7
    few = metrics.conformal(groups=groups, promise=0.99, **options)
    assert few.loc[1, "threshold"] == 0 and few.loc[1, "mean size"] == 2, "too few rows: all digits"


# ---- pairs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("both", "only_a", "only_b", "neither"),
    [(101, 59, 121, 33), (30, 5, 5, 2), (9, 0, 8, 1), (5, 0, 0, 5)],
)
def test_mcnemar_agrees_with_statsmodels(both, only_a, only_b, neither):
    counts = [both, only_a, only_b, neither]
    a, b = np.repeat([[True, True, False, False], [True, False, True, False]], counts, axis=1)
    expected = sm_mcnemar(np.reshape(counts, (2, 2)), exact=True).pvalue
    assert paired.mcnemar(a, b) == (only_a, only_b, pytest.approx(expected))


@pytest.mark.parametrize("overlap", [0, 1 / 9])
def test_corrected_t_is_the_plain_one_with_variance_for_the_overlap(overlap):
    # Variance enlarged from 1/k to 1/k + test rows per training row (Nadeau and Bengio 2003,
    # section 5).
    d = np.array([0.01, 0.02, -0.01, 0.03, 0.02, 0.00, 0.01, 0.02, 0.01, 0.00])
    t, p = paired.corrected_resampled_t(d, overlap)
    plain = ttest_1samp(d, 0)
    assert t == pytest.approx(plain.statistic * np.sqrt(0.1 / (0.1 + overlap)))
    assert p == pytest.approx(2 * student.sf(t, 9))
    assert (p > plain.pvalue) == (overlap > 0)
    assert paired.corrected_resampled_t([0, 0, 0], overlap) == (0, 1), "no difference at all"


def test_holm_agrees_with_statsmodels():
    p = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert paired.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
