"""Kill reports at random moments: none leaves half a report, and the next has the same bytes.

python benchmarks/kills.py 50      # a quarter of an hour; the tests do three
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = ("report", "--name", "cut", "--source", "sklearn", "--epochs", "1", "--seed", "3")


def start(folder):
    """A report of the smallest real run, in a process of its own."""
    command = [sys.executable, "-m", "digitlib", *WORDS]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, **options)


def main(kills):
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "reports", "cut")
        began = time.perf_counter()
        assert start(scratch).wait() == 0
        whole, took = (report / "predictions.csv").read_bytes(), time.perf_counter() - began
        made = report.stat().st_mtime_ns
        for number in range(1, kills + 1):
            process = start(scratch)
            time.sleep(random.Random(number).uniform(0, took))
            process.kill()
            process.wait()
            assert (report / "index.html").is_file(), "the report before is gone"
            assert (report / "predictions.csv").read_bytes() == whole, "half a report"
            print(f"{number} of {kills} kills: the report is whole", flush=True)
        assert start(scratch).wait() == 0
        assert report.stat().st_mtime_ns != made, "the last attempt made nothing"
        assert (report / "predictions.csv").read_bytes() == whole, "other bytes"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
