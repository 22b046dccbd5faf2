"""One Prefect task per stage: reuse, lock, resume, publish."""
