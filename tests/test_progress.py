"""Progress for a person who watches, and for a log file."""

import pytest

from digitlib.progress import Progress, Stopped

RECORD = {"epoch": 1, "loss": 0.5, "held_out_loss": 0.25}


def watch(progress):
    """Two folds of two epochs each, as cross_validate reports them."""
    for fold in (1, 2):
        for epoch in (1, 2):
            progress.epoch(fold, {**RECORD, "epoch": epoch}, 2)
        progress.fold(fold, 0.9876, 1.25)
    progress.close()


def test_log_file_has_plain_lines_that_say_all(capfd, monkeypatch):
    monkeypatch.delenv("DIGITLIB_PROGRESS", raising=False)
    watch(Progress(2, every=0))
    out, said = capfd.readouterr()
    assert out == ""
    assert "\r" not in said
    assert "\x1b" not in said
    lines = said.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("fold 1/2, epoch 1/2, loss 0.5000, held-out loss 0.2500, about ")
    assert lines[0].endswith(" s left")
    assert lines[2] == "fold 1/2: accuracy 98.76 %, 1.2 s"


def test_bar_shows_fold_epoch_loss_and_time_left(capfd):
    watch(Progress(2, "bar"))
    said = capfd.readouterr().err
    assert "\r" in said
    assert "fold 1/2, epoch 1/2, loss 0.5000, held-out loss 0.2500" in said
    assert "left" in said
    assert "100%" in said.split("\r")[-1]


def test_training_that_goes_on_after_the_end_is_stopped():
    progress = Progress(2, "off")
    progress.epoch(1, RECORD, 2)
    progress.close()
    with pytest.raises(Stopped):
        progress.epoch(1, RECORD, 2)
