"""kill -9 `nestobs report` at random instants: is only what is whole published, and does the next start mend the rest?

    PYTHONPATH=tests python -m benchmarks.kill_report --kills 20

Each round makes a report again and is killed on its way. Then: whatever is published is whole; no kernel, guard or
child of a cell lives on; the next start makes the report and leaves no temporary folder. Prints one line a kill and
exits 1 when anything was wrong.
"""

import argparse
import random
import signal
import tempfile
import time
from pathlib import Path

from worlds import scheduled_reports as reports

CELLS = ("import subprocess\nsubprocess.Popen(['sleep', '1000'])", "import time\ntime.sleep(3)")
DIES_WITHIN_S = 3.0


def kill(folder: Path, notebook: Path, after_s: float, *, number: int = signal.SIGKILL) -> list[str]:
    """What was wrong after one kill and the start that follows it."""
    out, tmp = folder / "out", folder / "t"
    tmp.mkdir(exist_ok=True)
    words = ("run", str(notebook), "--store", "store", "--window", reports.DAY, "--out", "out")
    process = reports.begin(*words, "--force", cwd=folder, tmp=tmp)
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()  # its output is not read before: a kernel that lived on would hold the pipe open
    ends = time.monotonic() + DIES_WITHIN_S
    while reports.kernels(f"TMPDIR={tmp}") and time.monotonic() < ends:
        time.sleep(0.02)
    wrong = [f"process {pid} lives on" for pid in reports.kernels(f"TMPDIR={tmp}")]
    process.communicate()
    if out.is_dir():
        wrong += check(out)
    code, _, err = reports.report(*words, cwd=folder, tmp=tmp)
    if code:
        return [*wrong, f"the next start ended with {code}: {err}"]
    wrong += check(out) + [f"left: {name}" for name in [*reports.left(out), *(path.name for path in tmp.iterdir())]]
    return wrong + ([] if reports.folders(out) else ["nothing is published"])


def check(out: Path) -> list[str]:
    """What is published and not whole."""
    wrong = []
    for folder in reports.folders(out):
        try:
            assert reports.whole(folder)["verdict"] == "good"
        except (AssertionError, OSError, ValueError) as error:
            wrong.append(f"{folder} is not whole: {error!r}")
    return wrong


def main(count: int, seed: int, longest_s: float) -> int:
    """How many kills left something wrong."""
    dice, bad = random.Random(seed), 0
    with tempfile.TemporaryDirectory(prefix="k") as name:
        folder = Path(name)
        reports.store(folder / "store")
        notebook = reports.write(folder / "daily.ipynb", *CELLS)
        for number in range(1, count + 1):
            after_s = dice.uniform(0.3, longest_s)
            wrong = kill(folder, notebook, after_s)
            bad += bool(wrong)
            print(f"{number:>2}  killed after {after_s:5.2f} s: {'; '.join(wrong) or 'whole, and mended'}", flush=True)
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=14.0, help="seconds a run takes here, about")
    args = parser.parse_args()
    raise SystemExit(1 if main(args.kills, args.seed, args.longest) else 0)
