"""Training: one loop, one process (`python -m lmcore.train JOB.json`), resumable to the bit from any kill.

This package imports nothing here, so that `__main__` can raise the C allocator's thresholds before torch loads.
"""
