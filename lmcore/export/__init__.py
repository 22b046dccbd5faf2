"""Models as files that other programs open, and the check that they hold what was trained."""
