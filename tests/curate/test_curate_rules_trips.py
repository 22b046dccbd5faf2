"""What each rule does by itself, added up over shards, and the error when nothing is left."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from lmcore.curate.names import SIGNALS
from lmcore.curate.rules import KEPT, RulesParams, apply_rules
from lmcore.curate.trips import TRIPS, add_trips, trips

SETS = ("house", "gopher_repetition", "fineweb2")


@pytest.fixture
def corpus(seed):
    """(columns, kinds, langs) of some hundred records with anything for signals."""
    source = np.random.default_rng(seed)
    count = 400
    columns = {name: source.random(count) for name in SIGNALS} | {"n_words": source.random(count) * 120}
    columns["template_share"][::3] = np.nan
    return columns, source.choice(["prose", "code"], count).tolist(), source.choice(["hu", "ja", "xx"], count).tolist()


def table(rules, columns, kinds, langs):
    return trips(rules, columns, kinds, langs, apply_rules(rules, columns, kinds, langs))


def test_counts_are_those_of_each_rule_alone(corpus):
    columns, kinds, langs = corpus
    params = RulesParams(sets=SETS, limits={"max_template": 0.5})
    rules = params.active()
    whole = apply_rules(rules, columns, kinds, langs)
    found = table(rules, columns, kinds, langs)
    assert found.schema == TRIPS
    groups = {(row["rule"], row["lang"], row["kind"]): row for row in found.to_pylist()}
    assert len(groups) == found.num_rows > 50
    for index, rule in enumerate(rules):
        alone = apply_rules([rule], columns, kinds, langs)
        others = apply_rules([other for other in rules if other is not rule], columns, kinds, langs)
        for lang in set(langs):
            for kind in set(kinds):
                here = (np.array(langs) == lang) & (np.array(kinds) == kind)
                row = groups.get((rule.name, lang, kind))
                failed = int((here & (alone.rule != KEPT)).sum())
                if row is None:
                    assert failed == 0
                    continue
                assert row["failed"] == failed
                assert row["failed_only_here"] == int((here & (alone.rule != KEPT) & (others.rule == KEPT)).sum())
                assert row["dropped"] == int((here & (whole.rule == index)).sum())
                assert row["dropped"] <= row["failed"] <= row["looked_at"] <= here.sum()
    assert sum(row["dropped"] for row in groups.values()) == int((whole.rule != KEPT).sum())
    template = [row["looked_at"] for row in groups.values() if row["rule"] == "max_template"]
    assert sum(template) == int((~np.isnan(columns["template_share"])).sum()), "what is not known is not looked at"


def test_shards_add_up(corpus, seed):
    columns, kinds, langs = corpus
    rules = RulesParams(sets=SETS).active()
    edges = [0, *sorted(np.random.default_rng(seed).choice(400, 4, replace=False).tolist()), 400]
    parts = [
        table(rules, {name: column[a:b] for name, column in columns.items()}, kinds[a:b], langs[a:b])
        for a, b in pairwise(edges)
    ]
    assert add_trips(parts, rules).equals(table(rules, columns, kinds, langs))
    assert add_trips(parts[::-1], rules).equals(add_trips(parts, rules))
    assert add_trips([], rules).equals(TRIPS.empty_table())


def test_no_records_no_rows():
    rules = RulesParams().active()
    assert table(rules, {name: np.zeros(0) for name in SIGNALS}, [], pa.array([], pa.string())).num_rows == 0
