"""What a report's kernel starts with: a guard, then ipykernel. Run by its path; it imports nothing of nestobs.

It imports what nearly every notebook needs, and then waits for one line on standard input, its own arguments as JSON.

The guard is a fork in the kernel's own process group. It reads a pipe whose other end only the kernel's starter holds.
When that end is gone, in whatever way its holder ended (kill -9 too), the guard kills the group: the kernel, what its
cells have started in the group, and itself. It needs no help from the kernel, which may hang in C code. While the guard
lives its group's number cannot be another's. A process that leaves the group by setsid is not followed.
"""

import gc
import json
import os
import signal
import sys


def guard(pipe: int) -> None:
    """Wait until nobody holds the pipe's other end, then kill this process group. Does not return."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(pipe, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    held = int(sys.argv[1])
    if os.fork() == 0:
        guard(held)
    os.close(held)
    gc.set_threshold(100_000, 20, 20)  # it lives for seconds: looking for garbage as often as usual costs a tenth

    import pandas  # noqa: F401 - imported while there is time
    from ipykernel import kernelapp
    from plotly.graph_objects import Figure  # noqa: F401 - as above

    told = sys.stdin.readline()
    if told:  # else its starter needs it no more
        sys.argv = json.loads(told)
        kernelapp.launch_new_instance()
