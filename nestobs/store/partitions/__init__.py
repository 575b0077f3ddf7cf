"""A store in parts that are worked on apart, here or elsewhere, and together say what the whole says.

ties        which rows belong together: those that share a trace, an address or a room, directly or by others
partition   some of that, as a small value that reads its rows itself, wherever it is taken
plan        a store cut into partitions, by one pass over a few columns
work        a function of each partition, on an executor, in order; what a lost process had is done again
engine      the executors that words name: here, processes, a Dask cluster
"""

from nestobs.store.partitions.engine import opened
from nestobs.store.partitions.partition import Part, Partition, among_words
from nestobs.store.partitions.plan import ALWAYS, PARTITION_ROWS, Plan, Sent, plan
from nestobs.store.partitions.work import worked

__all__ = ["ALWAYS", "PARTITION_ROWS", "Part", "Partition", "Plan", "Sent", "among_words", "opened", "plan", "worked"]
