"""Artifacts, manifests, locks, Parquet, the DuckDB catalog, the registry. Knows no torch, no Prefect, no lmcore."""

import os

# Arrow reads it when it is loaded. Its own allocator keeps what it has freed, thread by thread: a third of what
# curation takes. Whoever sets the variable has the choice.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
