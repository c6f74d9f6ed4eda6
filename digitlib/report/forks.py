"""Processes that start at once: copies of one that has imported what a report needs.

Each kernel would import the same libraries anew, for seconds. Here one process of its own, which
does nothing else, imports them once; kernels and what writes pages begin as copies of it.
"""

import asyncio
import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from jupyter_client.provisioning import LocalProvisioner

# Elsewhere a kernel is started as ever: macOS does not allow forks after its own libraries were
# used, Windows has none.
AVAILABLE = sys.platform == "linux"
# What a kernel of a batch run finds in its environment, beside what prepare_environment sets.
ENVIRONMENT = {
    "DIGITLIB_BATCH": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "OMP_NUM_THREADS": "1",  # folds run side by side: more would stand in each other's way
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    # Python says so when it removes what a killed kernel left; nobody need read that.
    "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
}


class Forked(LocalProvisioner):
    """What jupyter_client asks to start, watch and end a kernel's process."""

    method = "forkserver"

    async def launch_kernel(self, cmd, **options):
        """Start the kernel; the command line `cmd` would start another interpreter."""
        file, folder = self.parent.connection_file, options.get("cwd") or os.getcwd()
        fork = multiprocessing.get_context(self.method).Process
        self.process = _Popen(fork(target=_kernel, args=(file, folder, options["env"])))
        self.pid = self.process.pid
        return self.connection_info


def prepare_environment(scratch, fork="forkserver"):
    """Set what kernels inherit: the digitlib that runs now, and no settings of the user.

    `scratch` is an empty folder: IPython's start-up files of a user must not change a report. Its
    path is short, for sockets.
    `fork` is how a process begins where it is a copy: with ``"fork"`` it is one of this process,
    which must not have used torch in threads.
    """
    home = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    folders = dict.fromkeys(("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"), str(scratch))
    folders["TMPDIR"] = tempfile.gettempdir()  # that of this process, which is swept
    os.environ.update(ENVIRONMENT | folders | {"PYTHONPATH": path})
    Forked.method = fork
    if AVAILABLE and fork == "forkserver":
        multiprocessing.set_forkserver_preload(["digitlib.report.warm"])
        multiprocessing.forkserver.ensure_running()


def context():
    """How processes begin: multiprocessing's context."""
    return multiprocessing.get_context(Forked.method if AVAILABLE else "spawn")


class Processes(ProcessPoolExecutor):
    """`count` processes that do what is named to them; they end with the one that asked."""

    def __init__(self, count):
        super().__init__(count, context(), _of_parent)

    def submit(self, name, *given):
        """Call a function of the package, such as ``"checks:write"``; its future.

        The name alone travels: this process need not import what the function does.
        """
        return super().submit(_call, f"digitlib.{name}", *given)

    def run(self, name, *given):
        """Call it and wait for what it returns."""
        return self.submit(name, *given).result()


def _of_parent():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _call(name, *given):
    return pkgutil.resolve_name(name)(*given)


class _Popen:
    """A process with the methods of :class:`subprocess.Popen` that a provisioner calls."""

    stdin = stdout = stderr = None

    def __init__(self, process):
        process.start()
        self.process, self.pid = process, process.pid
        self.kill, self.terminate = process.kill, process.terminate

    def poll(self):
        """The exit code, None while it runs."""
        return self.process.exitcode

    def wait(self):
        """The exit code, when it has ended."""
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number):
        """Send it a signal."""
        os.kill(self.pid, number)


def _kernel(connection_file, folder, environment):
    # Elsewhere tqdm would take this for Jupyter.
    from ipykernel.kernelapp import launch_new_instance

    asyncio.set_event_loop(asyncio.new_event_loop())  # a copy of another's runs already
    os.setsid()  # Ctrl-C in the terminal is for the parent, which then ends its kernels
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # ipykernel would watch the process it was forked from, which outlives the one it works for.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({**environment, "JPY_PARENT_PID": "0"})
    launch_new_instance(["--log-level=50", "-f", connection_file])


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
