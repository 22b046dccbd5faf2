"""Training: one loop, one process (`python -m lmcore.train JOB.json`), resumable to the bit from any kill.

This package imports nothing here, so that `__main__` can raise the C allocator's thresholds before torch loads.
"""

PARENT_VARIABLE = "COLLECT_TRAIN_PARENT"  # process id of whoever starts a trainer: it stops when that one is gone
TORCH_BYTES = 300_000_000  # resident in a trainer before its first tensor
