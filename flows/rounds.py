"""Collecting in rounds until the targets of a recipe and its sources are reached, or more is not worth it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lmcore.collect.target import Target, Yield, standing
from lmcore.recipe import Recipe
from storage.store import Artifact

Collect = Callable[[Mapping[str, int], Mapping[str, Artifact]], dict[str, Artifact]]
NOTHING = Yield(0, 0)


def collect_in_rounds(
    recipe: Recipe, collect: Collect, first: Mapping[str, int], say: Callable[[str], None]
) -> dict[str, Artifact]:
    """The last artifact of each source, by its name; `say` hears where each target stands after a round.

    `first` is the round that a source begins with, 1 unless it is named: an edition goes on where the one before
    ended. `collect(rounds, before)` makes the sources named in `rounds` in that round, on top of what they have by
    then. A source with a target of its own grows by that alone, the others by the recipe's.
    """
    rounds = {source.name: first.get(source.name, 1) for source in recipe.sources}
    open_targets = _targets(recipe)
    made = collect(rounds, {})
    before = dict.fromkeys(made, NOTHING)
    while open_targets:
        yields = {name: Yield(a.metrics["records"], a.metrics["unique"]) for name, a in made.items()}
        growing: set[str] = set()
        for whose, (target, counted, grow) in list(open_targets.items()):
            now, then = (_sum(some[name] for name in counted) for some in (yields, before))
            stands = standing(target, whose, max(rounds[name] for name in grow or counted), now, then)
            if stands.go_on and grow:
                say(f"  {stands.line}")
                growing |= set(grow)
            else:
                say(f"  {stands.line}: no source of it has a budget" if stands.go_on else f"  {stands.line}")
                del open_targets[whose]
        if growing:
            rounds |= {name: rounds[name] + 1 for name in growing}
            before = yields
            made = made | collect({name: rounds[name] for name in rounds if name in growing}, made)
    return made


def _targets(recipe: Recipe) -> dict[str, tuple[Target, list[str], list[str]]]:
    """By whose they are: every target, the sources that count for it, and those that it makes grow."""
    found = {
        f"source {source.name}": (source.target, [source.name], [source.name] if source.BUDGETS else [])
        for source in recipe.sources
        if source.target
    }
    if recipe.target:
        grow = [source.name for source in recipe.sources if source.BUDGETS and not source.target]
        found[f"recipe {recipe.name}"] = recipe.target, [source.name for source in recipe.sources], grow
    return found


def _sum(yields: Iterable[Yield]) -> Yield:
    all_of = list(yields)
    return Yield(sum(one.records for one in all_of), sum(one.unique for one in all_of))
