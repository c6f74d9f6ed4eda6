"""Progress of a training: a bar for a person who watches, a few plain lines for a log file."""

import os
import sys
import threading
import time

from digitlib.errors import ParameterError

MODES = ("auto", "bar", "log", "off")


class Stopped(Exception):
    """Raised inside training when whoever asked for it has gone."""


class Progress:
    """Progress of folds that train side by side; safe to call from several threads.

    Parameters
    ----------
    n_folds : int
    mode : {"auto", "bar", "log", "off"}
        ``"auto"``: what the environment variable ``DIGITLIB_PROGRESS`` says; else a tqdm bar in a
        terminal or notebook and plain lines, seconds apart, where the output is a file.
    every : float
        Least seconds between two plain lines of running folds.
    """

    def __init__(self, n_folds, mode="auto", every=15.0):
        if mode == "auto":
            mode = os.environ.get("DIGITLIB_PROGRESS", "auto")
        if mode == "auto":
            mode = "bar" if _in_notebook() or sys.stderr.isatty() else "log"
        if mode not in MODES:
            raise ParameterError(f"progress={mode!r}: takes one of {', '.join(MODES)}")
        self.n_folds, self.mode, self.every = n_folds, mode, every
        self.started = self.last_line = time.monotonic()
        self.stopped = threading.Event()
        self._lock, self._done = threading.Lock(), {}
        # Shown from the cell's own thread: what a thread of a fold shows may get lost in Jupyter.
        self._bar = _bar() if self.mode == "bar" else None

    def epoch(self, fold, record, epochs):
        """Fold `fold` (from 1) has ended the epoch of `record`, one of `epochs`.

        Raises
        ------
        Stopped
            After :meth:`close`.
        """
        if self.stopped.is_set():
            raise Stopped
        share = record["epoch"] / epochs
        text = f"epoch {record['epoch']}/{epochs}, loss {record['loss']:.4f}"
        if "held_out_loss" in record:
            text += f", held-out loss {record['held_out_loss']:.4f}"
        self._show(fold, share, f"fold {fold}/{self.n_folds}, {text}")

    def fold(self, fold, accuracy, seconds):
        """Fold `fold` is complete: accuracy 0..1 on its held-out rows."""
        text = f"accuracy {100 * accuracy:.2f} %, {seconds:.1f} s"
        self._show(fold, 1.0, f"fold {fold}/{self.n_folds}: {text}", complete=True)

    def close(self):
        """Stop what still trains, and leave the bar as it is."""
        self.stopped.set()
        with self._lock:
            if self._bar is not None:
                self._bar.close()

    def _show(self, fold, share, text, complete=False):
        with self._lock:
            self._done[fold] = share
            done, now = sum(self._done.values()), time.monotonic()
            if self.mode == "bar":
                self._bar.set_postfix_str(text, refresh=False)
                self._bar.n = round(100 * done / self.n_folds)
                self._bar.refresh()
            elif self.mode == "log" and (complete or now - self.last_line > self.every):
                if not complete:
                    left = (now - self.started) * (self.n_folds - done) / done
                    text += f", about {left:.0f} s left"
                self.last_line = now
                print(text, file=sys.stderr, flush=True)


def _bar():
    # Brings the widgets of notebooks, which a log does without.
    from tqdm.auto import tqdm

    return tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed} gone, {remaining} left{postfix}")


def _in_notebook():
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return bool(shell) and type(shell).__name__ == "ZMQInteractiveShell"
