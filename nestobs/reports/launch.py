"""What a report's kernel starts with: a guard, then ipykernel. Run by its path; it imports nothing of nestobs.

The guard is a fork in the kernel's own process group. It reads a pipe whose other end only the kernel's starter holds.
When that end is gone, in whatever way its holder ended (kill -9 too), the guard kills the group: the kernel, what its
cells have started in the group, and itself. It needs no help from the kernel, which may hang in C code. While the guard
lives its group's number cannot be another's. A process that leaves the group by setsid is not followed.
"""

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
    held = int(sys.argv.pop(1))
    if os.fork() == 0:
        guard(held)
    os.close(held)

    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
