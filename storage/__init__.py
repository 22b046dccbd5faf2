"""Artifacts, manifests, locks, Parquet, the DuckDB catalog and the registry of releases. Knows no torch, no Prefect, no lmcore."""
