"""`nestobs --help`, and the names that a shell asks for, against a bare interpreter, in the same run: the ratio of
medians. Limit: 4."""

import statistics
import subprocess
import sys
import time

RUNS = 10


def median_s(words: list[str]) -> float:
    """Median wall time of a whole process, seconds, after one warm-up."""
    times = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


if __name__ == "__main__":
    bare = median_s([sys.executable, "-c", "pass"])
    for words in (["--help"], ["completion", "names", "targets"], ["completion", "names", "scenarios"]):
        took = median_s([sys.executable, "-m", "nestobs", *words])
        said = f"{' '.join(words)} {took * 1e3:.1f} ms, bare {bare * 1e3:.1f} ms"
        print(f"{said}, ratio {took / bare:.2f} (limit 4)")
