"""The tokens tests share the texts of the tokenizer tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tokenizer"))
