"""The tables of promises and of commands: every row is whole, and every command is one that the program takes."""

from __future__ import annotations

import ast
import re
import shlex
from typing import NamedTuple

import pytest
from helpers_flows import ROOT
from helpers_systems import DOCS, commands
from typer.main import get_command

import flows.cli
from lmcore.recipe import load_recipe
from storage.store import STAGES

SYSTEMS = ["SOMA", "LAi", "CLLM", "MU-SOTA", "Amharic"]
HEADINGS = ["promise", "line", "verdict", "reason", "command"]
VERDICTS = {"built", "reinterpreted", "rejected"}
PROGRAM = get_command(flows.cli.app)


class Promise(NamedTuple):
    """A row of docs/claims.md."""

    promise: str
    line: str
    verdict: str
    reason: str
    command: str


def sections(page):
    """The heading of every section of a page under docs, and its text."""
    parts = re.split(r"^## (.+)\n", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text):
    """The cells of every row of a table, the heading first and without the line below it."""
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert re.fullmatch(r"\|(---\|)+", table[1]), table[1]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in (table[0], *table[2:])]


def promises(system):
    """The rows of a system, below the heading."""
    return [Promise(*cells) for cells in rows(sections("claims.md")[system])[1:]]


def typed(cell):
    """The commands in backticks of a cell."""
    return re.findall(r"`((?:collect-train|python) [^`]+)`", cell)


def parsed(command):
    """The subcommand of `collect-train` and the values its options and arguments have; fails for unknown ones."""
    program, name, *words = shlex.split(command)
    assert program == "collect-train", command
    assert name in PROGRAM.commands, f"{command}: no such command"
    if "--help" in words:
        return name, {}
    context = PROGRAM.commands[name].make_context(name, words)  # raises for an option that there is not
    return name, context.params


def check_program(command):
    """A `collect-train` command is taken: subcommand, options, recipe and settings."""
    name, values = parsed(command)
    named = {"run": "recipe", "params": "recipes", "show": "what"}.get(name)
    recipes = values.get(named, [])
    for recipe in [recipes] if isinstance(recipes, str) else recipes:
        if name != "show" or recipe not in STAGES:  # `show` takes artifacts too
            load_recipe(recipe, values["set_"] or [])


def check_python(command):
    """A `python` command is of a file of the repository, and of a test in it where one is named."""
    words = shlex.split(command)[1:]
    path, _, test = (words[2] if words[:2] == ["-m", "pytest"] else words[0]).partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert not test or test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, command


def test_the_promises_of_five_documents_are_told():
    assert list(sections("claims.md")) == SYSTEMS == list(sections("from-the-documents.md"))


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_promise_has_its_line_a_verdict_and_a_reason(system):
    heading, *told = rows(sections("claims.md")[system])
    assert heading == HEADINGS
    assert len(told) > 15
    for cells in told:
        assert len(cells) == len(HEADINGS), cells
        assert all(cells), cells
        row = Promise(*cells)
        assert row.verdict in VERDICTS, row
        assert re.match(r"\d+|README$", row.line), row


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_promise_has_a_command_that_there_is_or_says_why_none(system):
    for row in promises(system):
        if row.command.startswith("none"):
            assert re.match(r"none: \w+", row.command), row
            continue
        assert typed(row.command), row
        for command in typed(row.command):
            (check_python if command.startswith("python ") else check_program)(command)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_command_beside_a_documents_is_one_that_there_is(system):
    right = [cells[1] for cells in rows(sections("from-the-documents.md")[system])[1:]]
    every = [command for cell in right for command in typed(cell) if command.startswith("collect-train")]
    assert set(commands(system)) <= set(every)  # those that the tests of the systems type
    for command in every:
        check_program(command)


@pytest.mark.parametrize(
    "command",
    [
        "collect-train teach soma",
        "collect-train run soma --untill curate",
        "collect-train params soma --set train.rate=1",
    ],
)
def test_a_command_that_there_is_not_is_noticed(command):
    with pytest.raises(Exception, match=r"(?i)no such|unknown|rate"):
        check_program(command)
