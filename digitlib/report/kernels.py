"""Run a notebook: by papermill, on the Python that runs this, with errors a person can act on."""

import logging
import multiprocessing
import os
import sys
import uuid
from typing import ClassVar

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from digitlib.errors import NotebookFailed
from digitlib.provenance import notebook_folder
from digitlib.report import forks
from digitlib.report.forks import Processes, prepare_environment

__all__ = ["Processes", "kill_all", "notebook_folder", "prepare_environment", "run"]

# Who reads a report's output is told by one line of ours, not by what papermill logs beside it.
logging.getLogger("papermill").setLevel(logging.CRITICAL)


class _ThisPython(AsyncKernelManager):
    """Starts the interpreter of this process, whatever kernels are installed."""

    running: ClassVar = set()

    def __init__(self, **options):
        # No network socket, not even on this machine. The path of a socket must be short.
        socket = f"{os.environ['IPYTHONDIR']}/{uuid.uuid4().hex[:8]}"
        file = f"{socket}.json"  # else it would be where a killed run leaves it for good
        super().__init__(transport="ipc", ip=socket, connection_file=file, **options)
        if forks.AVAILABLE:
            self.provisioner = forks.Forked(kernel_spec=self.kernel_spec, parent=self)

    @property
    def kernel_spec(self):
        """The specification that is always used."""
        launch = [sys.executable, "-m", "ipykernel_launcher", "--log-level=50"]
        return KernelSpec(
            argv=[*launch, "-f", "{connection_file}"], display_name="Python 3", language="python"
        )

    async def _async_start_kernel(self, **options):
        self.running.add(self)
        await super()._async_start_kernel(**options)

    start_kernel = _async_start_kernel


def kill_all():
    """End every kernel and process of ours that still runs; for when the report is interrupted."""
    for process in multiprocessing.active_children():
        if isinstance(process, forks.context().Process):  # joblib has others
            process.kill()
    for manager in list(_ThisPython.running):
        process = getattr(manager.provisioner, "process", None)
        if process is not None and process.poll() is None:
            process.kill()


def run(notebook, output, parameters, folder):
    """Execute `notebook` with `folder` as its working directory.

    Parameters
    ----------
    notebook, output : Path
        The executed copy is saved after every cell, so that a failed run can be read.
    parameters : dict
        Values for names in the cell tagged ``parameters``.
    folder : Path

    Raises
    ------
    NotebookFailed
        A cell raised an error, or the kernel died.
    """
    try:
        executed = papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters,
            kernel_name="python3",
            progress_bar=False,
            stderr_file=sys.stderr,
            kernel_manager_class=_ThisPython,
            resources={"metadata": {"path": str(folder)}},
            start_timeout=120,
        )
    except PapermillExecutionError as error:
        said = str(error.evalue).strip().splitlines()
        raise NotebookFailed(
            f"{notebook.name}, cell [{error.exec_count}]: {error.ename}: {said[0] if said else ''}"
        ) from error
    except DeadKernelError as error:
        raise NotebookFailed(
            f"{notebook.name}: its kernel died, perhaps killed or out of memory; run it again"
        ) from error
    except RuntimeError as error:  # jupyter_client's word for a kernel that does not come up
        raise NotebookFailed(
            f"{notebook.name}: its kernel did not start ({error}); try `python -m"
            " ipykernel_launcher --help`"
        ) from error
    # No paths of this machine.
    executed.metadata.papermill.update(input_path=notebook.name, output_path=output.name)
    nbformat.write(executed, output)
