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
from typing import ClassVar

from jupyter_client.provisioning import LocalProvisioner

# Elsewhere a kernel is started as ever: macOS does not allow forks after its own libraries were
# used, Windows has none.
AVAILABLE = sys.platform == "linux"
# Variables that change what a notebook does: those of the user or the site do not reach it.
FOREIGN = ("PYTHON", "IPYTHON", "JUPYTER", "PAPERMILL", "MPL", "MATPLOTLIB", "OMP_", "MKL_")


def environment(scratch):
    """What a report's processes find in their environment; `scratch` is an empty folder.

    The one place that decides what reaches a notebook from outside: no start-up file, no settings.
    """
    inherited = {name: v for name, v in os.environ.items() if not name.startswith(FOREIGN)}
    home = os.path.expanduser("~")
    path = filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])
    return inherited | {
        **dict.fromkeys(("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"), str(scratch)),
        "JUPYTER_CONFIG_DIR": str(scratch),
        "TMPDIR": tempfile.gettempdir(),  # that of this process, which is swept
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": os.pathsep.join(path),  # the digitlib that runs now
        # Python says so when it removes what a killed kernel left; nobody need read that.
        "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": "1",  # folds run side by side: more would stand in each other's way
        "DIGITLIB_BATCH": "1",
        # A user without a home, as in a container, gets one.
        "HOME": home if os.access(home, os.W_OK) else str(scratch),
    }


def prepare_environment(scratch, method="forkserver"):
    """Let all processes from now on find :func:`environment`, and begin by `method` if they can.

    With ``"fork"`` a process is a copy of this one, which must not have used torch in threads.
    """
    found = environment(scratch)
    os.environ.clear()
    os.environ.update(found)
    Provisioner.method = method if AVAILABLE else "spawn"
    if Provisioner.method == "forkserver":
        multiprocessing.set_forkserver_preload(["digitlib.report.warm"])


# ---- kernels -------------------------------------------------------------------------------------


class Provisioner(LocalProvisioner):
    """What jupyter_client asks to start, watch and end a kernel's process."""

    method: ClassVar = "spawn"
    running: ClassVar = []

    async def launch_kernel(self, cmd, **options):
        """Start the kernel; the command line `cmd` would start another interpreter."""
        if self.method == "spawn":
            await super().launch_kernel(cmd, **options)
        else:
            given = self.parent.connection_file, options.get("cwd") or os.getcwd(), options["env"]
            self.process = _Popen(multiprocessing.get_context(self.method), given)
            self.pid = self.process.pid
        self.running.append(self.process)
        return self.connection_info


class _Popen:
    """A process with the methods of :class:`subprocess.Popen` that a provisioner calls."""

    stdin = stdout = stderr = None

    def __init__(self, context, given):
        self.process = context.Process(target=_kernel, args=given)
        self.process.start()
        self.pid = self.process.pid
        self.kill, self.terminate = self.process.kill, self.process.terminate

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


def _kernel(connection_file, folder, variables):
    # Elsewhere tqdm would take this for Jupyter.
    from ipykernel.kernelapp import IPKernelApp

    class Kernel(IPKernelApp):
        def load_config_file(self, *names, **options):
            """Settings of the site's IPython must not change a report."""

    asyncio.set_event_loop(asyncio.new_event_loop())  # a copy of another's runs already
    os.setsid()  # Ctrl-C in the terminal is for the parent, which then ends its kernels
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # ipykernel would watch the process it was forked from, which outlives the one it works for.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({**variables, "JPY_PARENT_PID": "0"})
    Kernel.launch_instance(["--log-level=50", "-f", connection_file])


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


# ---- all else ------------------------------------------------------------------------------------


class Processes(ProcessPoolExecutor):
    """`count` processes that do what is named to them; they end with the one that asked."""

    def __init__(self, count):
        super().__init__(count, multiprocessing.get_context(Provisioner.method), _of_parent)

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


def kill_all():
    """End every kernel and process of ours that still runs; for when the report is interrupted."""
    for process in multiprocessing.active_children():
        if isinstance(process, multiprocessing.get_context(Provisioner.method).Process):
            process.kill()  # joblib has others
    for process in Provisioner.running:
        if process.poll() is None:
            process.kill()
