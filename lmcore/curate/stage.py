"""Stage `curate`: measured and compared records in; train, val and test texts, a decision on every record out.

Layout of `work/out`: train/, val/, test/ (CURATED), decisions.parquet, stats.json,
provenance/corpus.json (what it was made of).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate import gates
from lmcore.curate.beside import Beside
from lmcore.curate.clean import BOILERPLATE, CONTAMINATED, REPEATED
from lmcore.curate.cleaning import clear
from lmcore.curate.decide import EXACT, HELD_OUT, NEAR, NOBODY, Decided
from lmcore.curate.figures import gate_values, statistics, write_decisions
from lmcore.curate.ids import ids
from lmcore.curate.judge import LICENCE, Judge
from lmcore.curate.measure import FORGOTTEN_ROW, measured_files
from lmcore.curate.mix import RULE as MIX
from lmcore.curate.mix import repeats, weights
from lmcore.curate.params import CompareParams, CurateParams, CurateRuntime
from lmcore.curate.parent import ABOUT, MAX_BATCHES, read_about, read_parent
from lmcore.curate.privacy import blank
from lmcore.curate.records import Part, Records, read_records
from lmcore.curate.rounds import decide_and_clean
from lmcore.curate.sides import Sides
from lmcore.curate.split import RULE as SYNTHETIC
from lmcore.curate.split import TRAIN
from lmcore.curate.write import plan_files, write_splits
from lmcore.freed import give_back, large_apart
from lmcore.progress import Report
from storage.atomic import disk_errors, fault, write_json
from storage.digest import digest_json
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet
from storage.store import Store
from storage.text import number


@large_apart()
def curate(
    work: Path,
    parts: Sequence[Part],
    compared: Sequence[Path],
    parent: Path | None,
    *,
    about: dict[str, Any],
    params: CurateParams,
    runtime: CurateRuntime,
    report: Report,
    comparing: CompareParams,
) -> dict[str, Any]:
    """Curate the records that `parts` want into `work/out` and give the figures for the summary.

    `compared` are all comparisons among the parts, oldest first; `parent` is the corpus before this one. `about` says
    by which keys measures and comparisons are known and with what settings they were made, `comparing` are those of
    the comparisons. Raises UserError for a limit on a signal that is not computed, RunError for an unreadable or
    invalid input and, with every decision already written, for a corpus that fails its gates.
    """
    out = work / "out"
    files = [(path, part.wanted) for part in parts for path in measured_files(part.folder)]
    paths = [path for path, _ in files]
    forgotten = _forgotten(parts)
    judge = Judge(params, comparing)
    records = read_records(files, Beside(compared, judge.beside), judge)
    if lost := sum(len(part.wanted) for part in parts) - len(records) - forgotten.num_rows:
        raise RunError(
            f"{lost:,} records of the collections were not measured",
            "run `collect-train verify`, then the recipe again from its stage measure (--from measure)",
        )
    report(1, 4, f"judged {len(records):,} records by {len(judge.names)} rules")

    before = _same_deal(parent, params)
    settings = digest_json({**about, "curate": params.key_values(), "measures": None, "compares": None})
    whole = None if before is None else read_parent(before)
    reusable = whole is not None and whole.about["settings"] == settings and whole.about["batch"] + 1 < MAX_BATCHES
    base = whole if reusable else None
    decided, cleaned, pairs, measured = decide_and_clean(
        work,
        paths,
        compared,
        records,
        judge.names,
        params=params,
        comparing=comparing,
        runtime=runtime,
        known=whole,
        reusable=base,
        report=report,
    )
    give_back()
    often = _mixed(records, decided, params)
    report(2, 4, f"{int(decided.kept.sum()):,} of {len(records):,} records kept")
    fault("curate.before-decisions")

    checked = gates.check_gates(params.gates, gate_values(records, decided))
    figures = statistics(records, decided, checked, forgotten)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_decisions(out / "decisions.parquet", paths, records, decided, forgotten)
    write_parquet(out / "trips.parquet", judge.trips)
    write_json(out / "stats.json", figures)
    if len(records) and not decided.kept.any():
        raise _nothing_left(paths, records, decided)
    gates.require(checked, figures["rules"], len(records), _asked(work))
    report(3, 4, f"{int(decided.kept.sum()):,} of {len(records):,} records kept")
    give_back()

    kept = decided.kept
    measured_words = measured.words_of(records)
    sides = whole.sides if whole else Sides.nobody()
    sides = sides.with_kept(records.page[kept], measured_words[kept], decided.split[kept])
    copies = np.flatnonzero((decided.other != NOBODY) & (records.words == measured_words))  # as they are, not when cut
    sides.with_copies(measured_words[copies], decided.split[decided.other[copies]], pairs).write(out)
    del sides, copies, measured_words, pairs, measured
    plan = plan_files(records, decided, base)
    write_splits(work, paths, records, decided, plan, cleaned, often)
    report(4, 4, f"{int(plan.new.sum()):,} texts written")
    clear(work)
    write_json(out / ABOUT, {**about, "settings": settings, "batch": plan.batch, "salt": params.split.salt})
    return {
        "input_documents": figures["input"]["records"],
        "kept_documents": figures["kept"]["records"],
        "kept_bytes": figures["kept"]["bytes"],
        "duplicates": sum(figures["rules"].get(rule, 0) for rule in (EXACT, NEAR, HELD_OUT)),
        **{f"{name}_documents": split["documents"] for name, split in figures["splits"].items()},
        "train_bytes": figures["splits"]["train"]["bytes"],
        "new_documents": int(plan.new.sum()),
        "median_quality": figures["quality"]["deciles"][5] if figures["quality"]["deciles"] else 0.0,
    }


def _nothing_left(files: Sequence[Path], records: Records, decided: Decided) -> RunError:
    """The error of a corpus of which nothing is kept: the rule that dropped most, and three of its texts."""
    dropped = np.bincount(decided.rule, minlength=len(decided.rules))
    worst = int(np.argmax(dropped))
    shown = []
    for record in np.flatnonzero(decided.rule == worst)[:3].tolist():
        url = read_parquet(files[records.file[record]], ["url"])["url"][int(records.row[record])].as_py()
        value, limit = decided.value[record], decided.threshold[record]
        shown.append(blank(url) + ("" if np.isnan(value) else f" has {number(value)}, the limit is {number(limit)}"))
    rule = decided.rules[worst]
    mend = f"loosen it (curate.rules.limits: {{{rule}: …}}) or switch it off (curate.rules.off: [{rule}])"
    return RunError(
        f"nothing is kept of {len(records):,} records; {rule} drops most, {dropped[worst]:,}: {'; '.join(shown)}",
        f"{_ELSEWHERE.get(rule, mend)}; nothing is measured again for that",
    )


def _asked(work: Path) -> str:
    """The command that tells why each text went, of a corpus that is not finished."""
    which = f"where artifact = '{work.name}' order by rule"
    query = f'"select rule, url, value, threshold from unfinished_decisions {which}"'  # noqa: S608  a key, digits
    return f"`collect-train sql --store {shlex.quote(str(Store.of_work(work).root))} {query}`"


_ELSEWHERE = {  # what drops texts beside the rules, and where it is set
    LICENCE: "allow more licences (curate.licences)",
    MIX: "give sources and kinds more weight (curate.mix)",
    SYNTHETIC: "hold out less (curate.split), or collect texts that people wrote: no others are held out",
    CONTAMINATED: "look at contamination.parquet, and at curate.decontaminate",
    REPEATED: "let fewer words be left (curate.substrings.min_left_words), or switch curate.substrings.enabled off",
    BOILERPLATE: "let fewer words be left (curate.boilerplate.min_left_words), or switch curate.boilerplate.remove off",
}


def _same_deal(parent: Path | None, params: CurateParams) -> Path | None:
    """The corpus before, unless another salt deals all pages anew."""
    return parent if parent and read_about(parent)["salt"] == params.split.salt else None


def _mixed(records: Records, decided: Decided, params: CurateParams) -> NDArray[np.int64] | None:
    """How often each record is learnt from, and the drop of those that are not; None: every one once."""
    if params.mix.is_plain:
        return None
    train = np.flatnonzero(decided.kept & (decided.split == TRAIN))
    weight = weights(params.mix, records.names, records.source[train], records.kind[train])
    often = np.ones(len(records), np.int64)
    often[train] = repeats(params.mix, records.ids[train], weight, decided.cluster_size[train])
    decided.drop(MIX, train[often[train] == 0], 0.0, 1.0)
    return often


def _forgotten(parts: Sequence[Part]) -> pa.Table:
    """The records that are wanted and were left out, because they are forgotten."""
    found = [FORGOTTEN_ROW.empty_table()]
    for part in parts:
        table = read_parquet(part.folder / "forgotten.parquet")
        found.append(table.filter(pa.array(np.isin(ids(table["record_id"]), part.wanted))))
    return pa.concat_tables(found)
