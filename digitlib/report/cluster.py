"""Folds on other machines: ``ENGINE=dask://HOST:PORT`` lets a Dask cluster train them."""

import os
import re
from contextlib import contextmanager

import joblib

from digitlib.errors import ParameterError

ENGINE = "DIGITLIB_ENGINE"  # a variable of the environment, which the kernels of a report inherit


@contextmanager
def engine(address=None):
    """Let joblib run what is inside on a cluster; yields it in words, empty for this machine.

    `address`: ``dask://HOST:PORT`` of a Dask scheduler; None: what the environment says.
    """
    address = os.environ.get(ENGINE, "") if address is None else address
    if not address:
        yield ""
        return
    if not re.fullmatch(r"dask://[\w.-]+:\d+", address):
        raise ParameterError(f"engine={address!r}: takes dask://HOST:PORT")
    from distributed import Client  # of the extra "cluster"

    try:
        client = Client(address.replace("dask", "tcp", 1), timeout=10)
    except OSError:
        remedy = "start `dask scheduler` and `dask worker HOST:PORT`"
        raise ParameterError(f"engine={address!r}: no scheduler answers; {remedy}") from None
    with client, joblib.parallel_config("dask"):
        yield f"Dask cluster, {len(client.scheduler_info(n_workers=-1)['workers'])} worker(s)"
