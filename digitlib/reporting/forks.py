"""Kernels that start at once: forks of a process that has imported what notebooks need.

Each kernel would import the same libraries anew, for seconds. Here one process of its own, which
does nothing else, imports them once; every kernel begins as a copy of it.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading

from jupyter_client.provisioning import LocalProvisioner

# Elsewhere a kernel is started as ever: macOS does not allow forks after its own libraries were
# used, Windows has none.
AVAILABLE = sys.platform == "linux"
PRELOAD = ["ipykernel.kernelapp", "digitlib.reporting.forks"]
PRELOAD += ["digitlib.own", "digitlib.plots", "digitlib.compare"]


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


def start(method="forkserver"):
    """Begin to import, in that other process; returns at once.

    With ``"fork"``, kernels are copies of this process, which must not have used torch in threads.
    """
    Forked.method = method
    if method == "forkserver":
        multiprocessing.set_forkserver_preload(PRELOAD)
        multiprocessing.forkserver.ensure_running()


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
    from ipykernel.kernelapp import launch_new_instance  # elsewhere tqdm would take it for Jupyter

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
