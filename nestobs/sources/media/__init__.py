"""Media connections: the RTC library in a process of its own, and who speaks to it.

worker        the process as seen from here: started, asked, missed when it is lost
worker_main   what runs there, and the lines they speak

Nothing here imports the RTC library into this process.
"""

from nestobs.sources.media.worker import MediaWorker, Seat, WorkerLostError, has_library

__all__ = ["MediaWorker", "Seat", "WorkerLostError", "has_library"]
