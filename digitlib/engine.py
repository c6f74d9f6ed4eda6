"""Engine: where folds run, on this machine or on a cluster that joblib reaches."""

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import joblib

from digitlib.errors import ParameterError

VARIABLE = "DIGITLIB_ENGINE"  # kernels of a report inherit it


@contextmanager
def running(engine: str | None = None) -> Iterator[str]:
    """Let joblib run what is inside on an engine.

    Parameters
    ----------
    engine : str or None
        ``"dask://HOST:PORT"``: the workers of the Dask scheduler at this address. Empty: this
        machine. None: what the environment variable ``DIGITLIB_ENGINE`` says.

    Yields
    ------
    str
        The engine in words; empty for this machine.

    Raises
    ------
    ParameterError
        There is no such engine, or no scheduler answers.
    """
    engine = os.environ.get(VARIABLE, "") if engine is None else engine
    if not engine:
        yield ""
    elif re.fullmatch(r"dask://[\w.-]+:\d+", engine):
        distributed, address = importlib.import_module("distributed"), engine.partition("//")[2]
        try:
            client = distributed.Client(f"tcp://{address}", timeout=10)
        except OSError:
            raise ParameterError(
                f"engine={engine!r}: no scheduler answers there; start `dask scheduler` and, for"
                f" each machine, `dask worker {address}`"
            ) from None
        with client, joblib.parallel_config("dask"):
            workers = len(client.scheduler_info(n_workers=-1)["workers"])
            yield f"Dask cluster, {workers} worker{'s'[: workers != 1]}"
    else:
        raise ParameterError(f"engine={engine!r}: takes dask://HOST:PORT")


def use(engine: str | None) -> None:
    """Let all cross-validations from now on, and those of kernels, run on `engine`; try it first.

    Raises
    ------
    ParameterError
        As :func:`running`.
    """
    if engine:
        with running(engine):
            os.environ[VARIABLE] = engine
