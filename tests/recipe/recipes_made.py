"""The least a recipe needs."""

MINIMAL = {
    "name": "mine",
    "sources": [{"name": "docs", "kind": "web", "seeds": ["http://example.org/"]}],
    "train": {"steps": 10},
}
FILES = {"name": "notes", "kind": "files", "paths": ["*.txt"]}
