"""Run a notebook: by papermill, on the Python that runs this, with errors a person can act on."""

import logging
import sys

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from digitlib.errors import NotebookFailed
from digitlib.report.forks import Provisioner

# Who reads a report's output is told by one line of ours, not by what papermill logs beside it.
logging.getLogger("papermill").setLevel(logging.CRITICAL)


class _ThisPython(AsyncKernelManager):
    """Starts the interpreter of this process, whatever kernels are installed."""

    def __init__(self, **options):
        super().__init__(**options)
        self.provisioner = Provisioner(kernel_spec=self.kernel_spec, parent=self)

    @property
    def kernel_spec(self):
        """The specification that is always used."""
        launch = [sys.executable, "-m", "ipykernel_launcher", "--log-level=50"]
        return KernelSpec(
            argv=[*launch, "-f", "{connection_file}"], display_name="Python 3", language="python"
        )


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
        A cell raised an error or ended the notebook, or the kernel died.
    """
    try:
        executed = papermill.execute_notebook(
            *map(_literal, (notebook, output)),
            parameters,
            kernel_name="python3",
            progress_bar=False,
            stderr_file=sys.stderr,
            kernel_manager_class=_ThisPython,
            resources={"metadata": {"path": str(folder)}},
            start_timeout=120,
        )
    except PapermillExecutionError as error:
        said = str(error.evalue).strip().partition("\n")[0]
        raise NotebookFailed(
            f"{notebook.name}, cell [{error.exec_count}]: {error.ename}: {said}"
        ) from error
    except DeadKernelError as error:
        where, _ = _last(nbformat.read(output, as_version=4))
        raise NotebookFailed(
            f"{notebook.name}: its kernel died at {where}: killed, out of memory, or ended by the"
            " code; run it again"
        ) from error
    except RuntimeError as error:  # jupyter_client's word for a kernel that does not come up
        raise NotebookFailed(
            f"{notebook.name}: its kernel did not start ({error}); try `python -m"
            " ipykernel_launcher --help`"
        ) from error
    where, early = _last(executed)
    if early:
        raise NotebookFailed(
            f"{notebook.name}, {where}: it ended the notebook, and cells after it did not run; take"
            " out exit() or quit()"
        )
    # No paths of this machine.
    executed.metadata.papermill.update(input_path=notebook.name, output_path=output.name)
    nbformat.write(executed, output)


def _literal(path):
    """A path as papermill takes it: braces in it are no places to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _last(book):
    """The code cell that ran last or failed, and whether there are others that did not run."""
    cells = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    ran = [cell for cell in cells if cell.metadata.papermill.start_time]
    ended = any(output.output_type == "error" for cell in ran for output in cell.outputs)
    return f"cell [{len(ran)}]", ended or len(ran) < len(cells)
