"""Notebooks are run: by papermill, on the Python that runs this, those of a report side by side."""

import os
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import ClassVar

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from digitlib import checks, runs
from digitlib.errors import DigitlibError, NotebookFailed
from digitlib.reporting import render

# What a kernel of a batch run finds in its environment.
ENVIRONMENT = {"DIGITLIB_PROGRESS": "log", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


class _ThisPython(AsyncKernelManager):
    """Starts the interpreter of this process, whatever kernels are installed by what name."""

    running: ClassVar = set()
    _lock = threading.Lock()

    def __init__(self, **options):
        # No network socket, not even on this machine. Socket paths must be short: about 100
        # characters.
        folder = os.environ["IPYTHONDIR"]
        super().__init__(transport="ipc", ip=f"{folder}/{uuid.uuid4().hex[:8]}", **options)

    @property
    def kernel_spec(self):
        """The specification that is always used."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv += ["--log-level=50"]
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
        said = [*str(error.evalue).strip().splitlines(), ""][0]
        raise NotebookFailed(
            f"{notebook.name}, cell [{error.exec_count}]: {error.ename}: {said}"
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


def run_all(plan, folder):
    """Execute the notebooks of a report, write their pages and the checks.

    Exploration runs beside training. The others start beside it too, import what they need, and
    wait in :func:`digitlib.runs.load` until training has written the run; so do pages and checks.

    Parameters
    ----------
    plan : dict of str to dict
        Name of a notebook -> its parameters.
    folder : Path

    Raises
    ------
    NotebookFailed
        The first failure; it ends the other notebooks as well.
    """
    coming, trained = folder / runs.COMING, threading.Event()
    coming.touch()

    def page(name):
        trained.wait()  # pages show facts of the run
        if not coming.exists():
            render.write_page(folder / f"{name}.ipynb", plan)

    def in_turn(*names):
        for name in names:
            notebook = f"{name}.ipynb"
            run(notebook_folder() / notebook, folder / notebook, plan[name], folder)
            pages.append(renderer.submit(page, name))
            if name == "2_train":
                coming.unlink()
                trained.set()
                _check(folder)

    lanes = [["2_train"], ["1_eda", "5_predict"], ["3_evaluate", *{"4_compare"} & plan.keys()]]
    pages = []
    with ThreadPoolExecutor(len(lanes)) as workers, ThreadPoolExecutor(1) as renderer:
        try:
            for done in as_completed([workers.submit(in_turn, *lane) for lane in lanes]):
                done.result()
            for done in pages:
                done.result()
        except BaseException:
            kill_all()
            trained.set()
            raise


def _check(folder):
    """Write ``checks.json``. A check that did not pass is part of the report."""
    try:
        checks.write(folder, checks.check_folder(folder, everything=True))
    except DigitlibError as error:
        raise NotebookFailed(f"the checks could not be run: {error}") from error


def notebook_folder():
    """Where the notebooks are: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parents[1]
    beside = package.parent / "notebooks"
    return beside if (beside / "1_eda.ipynb").is_file() else package / "notebooks"


def prepare_environment(scratch):
    """Set what kernels inherit: `scratch` for a user's own settings, and this digitlib."""
    home = str(Path(__file__).parents[2])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    # A user's IPython start-up files must not change a report.
    own = {"IPYTHONDIR": str(scratch), "JUPYTER_RUNTIME_DIR": str(scratch), "PYTHONPATH": path}
    os.environ.update(ENVIRONMENT | own)
