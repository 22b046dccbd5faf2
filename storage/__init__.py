"""Artifacts, manifests, locks, Parquet, the DuckDB catalog, the registry. Knows no torch, no Prefect, no lmcore."""
