"""How is a notebook run? By papermill, always on the Python that runs this, with errors a person
can act on.
"""

import asyncio
import os
import sys
import threading
import uuid
from pathlib import Path
from typing import ClassVar

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from digitlib.errors import NotebookFailed

# What a kernel of a batch run finds in its environment. IPYTHONDIR: a user's IPython start-up files
# must not change a report.
ENVIRONMENT = {"DIGITLIB_PROGRESS": "log", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}

READS = ("runs.load(", "Reader(")


class _ThisPython(AsyncKernelManager):
    """Starts the interpreter of this process, whatever kernels are installed under whatever name."""

    running: ClassVar = set()
    _lock = threading.Lock()

    def __init__(self, **options):
        # No network socket, not even on this machine. Socket paths must be short: about 100
        # characters.
        super().__init__(
            transport="ipc", ip=f"{os.environ['IPYTHONDIR']}/{uuid.uuid4().hex[:8]}", **options
        )

    @property
    def kernel_spec(self):
        """The specification that is always used."""
        argv = [
            sys.executable,
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
            "--log-level=50",
        ]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")

    async def _async_start_kernel(self, **options):
        with self._lock:
            self.running.add(self)
        await super()._async_start_kernel(**options)

    start_kernel = _async_start_kernel


def kill_all():
    """End every kernel that still runs; for when the report is interrupted."""
    for manager in list(_ThisPython.running):
        process = getattr(manager.provisioner, "process", None)
        if process is not None and process.poll() is None:
            process.kill()


def run(notebook, output, parameters, folder, ready=None):
    """Execute `notebook` with `folder` as its working directory.

    Parameters
    ----------
    notebook, output : Path
        The executed copy is saved after every cell, so that a failed run can be read.
    parameters : dict
        Values for names in the cell tagged ``parameters``.
    folder : Path
    ready : callable or None
        Asked until it is true before a cell that reads a run (`READS`) is executed; the kernel
        starts and imports in the meantime.

    Raises
    ------
    NotebookFailed
        A cell raised an error, or the kernel died.
    """

    async def wait(cell, cell_index):
        while ready is not None and any(call in cell.source for call in READS) and not ready():
            await asyncio.sleep(0.05)

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
            on_cell_start=wait,
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
    executed.metadata.papermill.update(
        input_path=notebook.name, output_path=output.name
    )  # no paths of this machine
    nbformat.write(executed, output)


def notebook_folder():
    """Where the notebooks are: beside the package in a checkout, inside it when it was installed
    from a wheel.
    """
    package = Path(__file__).parents[1]
    beside = package.parent / "notebooks"
    return beside if (beside / "1_eda.ipynb").is_file() else package / "notebooks"


def prepare_environment(scratch):
    """Set what kernels inherit: an empty folder in place of the user's own settings, and the
    digitlib that runs now.
    """
    home = str(Path(__file__).parents[2])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.update(
        ENVIRONMENT, IPYTHONDIR=str(scratch), JUPYTER_RUNTIME_DIR=str(scratch), PYTHONPATH=path
    )
