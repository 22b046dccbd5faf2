"""Recipe files."""

import pytest
import yaml


@pytest.fixture
def write(tmp_path):
    """write(name, values): a recipe file of these values, or of this text; gives its path as text."""

    def make(name, values):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
        return str(path)

    return make
