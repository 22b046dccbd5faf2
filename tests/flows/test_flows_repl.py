"""`collect-train chat` at a terminal and from a pipe, and a translation by `generate`."""

from __future__ import annotations

import re
import time

import pytest
from helpers_flows import ROOT, collect
from helpers_runs import terminal
from talker_made import babbler_folder, talker_folder

from flows.repl_commands import COMMANDS, read_line, with_number
from lmcore.generate.sampling import Sampling
from storage.errors import UserError


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return str(talker_folder(tmp_path_factory.mktemp("talker")))


@pytest.fixture(scope="module")
def babbler(tmp_path_factory):
    return str(babbler_folder(tmp_path_factory.mktemp("babbler")))


def say(screen, line, shown):
    """Type a line and wait for what it brings and the next prompt; gives the match."""
    screen.send(f"{line}\n")
    return screen.read_until(rf"(?:{shown})[^>]*> $")


def test_every_command_at_a_terminal(talker):
    with terminal("chat", talker, "--temp", "0") as screen:
        screen.read_until(r"tags, as in its texts(?s:.*)/help lists the commands(?s:.*)you> $")
        # chat: the second answer is only right behind the first
        say(screen, "/stats", r"no answer yet\s+context: 0 of 96 tokens used\s+you")
        say(screen, "Hello", r"model> Szia!\s+you")
        say(screen, "", "you")
        say(screen, "And?", r"model> Again\.\s+you")
        stats = say(
            screen, "/stats",
            r"last answer: (\d+) tokens in \d+\.\d\d s, [\d.]+ tokens a second\s+since the start: 2 answers, (\d+)"
            r" tokens in [\d.]+ s, [\d.]+ tokens a second\s+context: (\d+) of 96 tokens used",
        )  # fmt: skip
        last, all_, used = map(int, stats.groups())
        assert 0 < last < all_ < used
        say(screen, "/reset", r"the conversation is forgotten\s+you")
        say(screen, "/stats", r"context: 0 of 96")
        say(screen, "\x1b[A" * 4, r"And\?\s+model> [^>]*you")  # the fourth line before
        say(screen, "/reset", "forgotten")
        say(screen, "ሰላም", r"model> እንዴት ነህ\s+you")
        # the other modes
        say(screen, "/translate", r"mode: translate en to hu\s+translate en to hu")
        say(screen, "apple", r"model> alma\s+translate en to hu")
        say(screen, "/en alma", r"model> apple\s+translate en to hu")
        say(screen, "/en", r"mode: translate hu to en\s+translate hu to en")
        say(screen, "alma", r"model> apple\s+translate hu to en")
        say(screen, "/hu apple", r"model> alma\s+translate hu to en")
        say(screen, "/hu", r"mode: translate en to hu\s+translate en to hu")
        say(screen, "/code print", r"model> print\(1\)\s+code")
        say(screen, "/text", r"mode: text\s+text")
        say(screen, "The cat", r"\nThe cat sat on the mat\.\s+text")
        # settings and what is wrong
        say(screen, "/length 2", r"max_tokens: 2\s+text")
        say(screen, "The cat", r"\nThe cat sat[^.]*\s+text")
        say(screen, "/tokens", r"max_tokens: 2\s+text")
        say(screen, "length 50", r"max_tokens: 50\s+text")
        say(screen, "temp 0.5", r"temperature: 0\.5\s+text")
        say(screen, "/temp 0", r"temperature: 0\.0\s+text")
        for line, told in {
            "/temp abc": r"\(/temp takes a number from 0 to 100, not 'abc'\)",
            "temp 101": r"\(/temp takes a number from 0 to 100, not '101'\)",
            "/temp nan": r"[^\n]*not 'nan'",
            "/length 0": r"\(/length takes a whole number from 1 to 1,048,576, not '0'\)",
            "/tokens 1.5": r"[^\n]*not '1\.5'",
            "/tmp": r"\(there is no command /tmp; did you mean /temp\?",
            "/stats now": r"\(/stats takes nothing behind it; type /stats\)",
        }.items():
            say(screen, line, rf"\n{told}[^\n]*\n\s*text")
        say(screen, "/chat", r"mode: chat\s+you")
        say(screen, "<user>", r"\(the message holds the tag <user>;")
        info = say(screen, "/info", r"(path(?s:.*))\s+you")[1]
        for fact in (talker[-12:], "n_layers: 1", "context", "96", "tags"):
            assert fact in info
        told = say(screen, "/help", r"((?s:.*))mode: chat\s+you")[1]
        assert all(name in told for name in COMMANDS)
        screen.send("quit\n")
        assert screen.finish() == 0


def test_control_c_stops_an_answer_and_control_d_ends(babbler):
    with terminal("chat", babbler, "--tokens", "100000", "--mode", "text", "--temp", "0") as screen:
        screen.read_until("text> $")
        for line in ("Hello", "/chat Hello"):
            screen.send(f"{line}\n")
            screen.read_until(r"Hello\s+(?:mode: chat\s+)?(?:Hello|model> )[^(]{20}")
            screen.send("\x03")
            screen.read_until(r"\(stopped\)\s+\w+> $")
        say(screen, "/stats", r"last answer: \d+ tokens in (?s:.*)2 answers(?s:.*)of 4,096 tokens used")
        screen.send("/res\t")
        screen.read_until("/reset")  # written by the line editor, which therefore reads now
        time.sleep(0.2)  # it does not notice what comes between two keys
        screen.send("\x03")
        screen.read_until(r"\(Ctrl-D or /quit ends\)\s+you> $")
        say(screen, "/tokens 3", "max_tokens: 3")
        screen.send("\x04")
        assert screen.finish() == 0


def test_what_no_longer_fits_in_the_context_is_said(tmp_path):
    folder = str(babbler_folder(tmp_path, context=96))
    done = collect("chat", folder, "--length", "20", "--template", "script", stdin="Hello\n" * 8 + "Hello " * 200)
    notes = done.err.splitlines()
    gone = [int(number) for number in re.findall(r"does not see the first (\d+) messages any more", done.err)]
    assert gone == sorted(gone)
    assert all(number % 2 == 0 for number in gone)
    assert notes[0] == f"(the model does not see the first {gone[0]} messages any more: its context is 96 tokens)"
    assert ["prompt of" in note for note in notes] == [False] * (len(notes) - 1) + [True]  # turns go whole
    assert done.out.count("model> ") == 9


def test_a_session_repeats_itself_and_an_answer_asked_for_again_differs(babbler):
    command = ("chat", babbler, "--mode", "text", "--tokens", "12", "--temp", "1.5", "--seed", "5")
    once = collect(*command, stdin="The\n\nThe\n/reset\nThe\n").out
    assert collect(*command, stdin="The\n\nThe\n/reset\nThe\n/quit\nnever read\n").out == once
    first, second, again = [part.split("the conversation")[0].strip() for part in re.split("(?m)^The", once)[1:]]
    assert first == again != second
    sampled = ("--tokens", "12", "--temp", "1.5", "--seed", "5", "--top-p", "1")
    assert collect("generate", babbler, "The", *sampled).out.strip() == f"The{first}".strip() or first.startswith("\n")


def test_one_translation_by_generate(talker):
    assert collect("generate", talker, "--translate", "apple", "--temp", "0").out == "alma\n"
    assert collect("generate", "--model", talker, "-t", "alma", "--to", "en", "--temperature", "0").out == "apple\n"


@pytest.mark.parametrize(
    ("arguments", "told", "mend"),
    [
        (("generate", "M", "--translate", "apple", "--to", "de"), "no translation to 'de'", "hu, en"),
        (("generate", "M", "apple", "--to", "en"), "--to is the language of a translation", "--translate"),
        (("generate", "M", "x", "--translate", "apple"), "2 texts are given", "quotes"),
        (("generate", "--model", "M"), "there is no prompt", "give one"),
        (("generate", "M", "-t", "apple", "--template", "xml"), "no template 'xml'", "script, tags"),
        (("chat", "M", "--mode", "talk"), "no mode 'talk'", "chat, translate, code, text"),
        (("chat", "M", "--temp", "101"), "temperature cannot be 101", "temperature:"),
    ],
)
def test_what_cannot_be_is_told_in_two_lines(arguments, told, mend, talker):
    what, how = collect(*(talker if word == "M" else word for word in arguments), code=2).error
    assert told in what
    assert mend in how


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("Hello", ("", "Hello")),
        (" /help", ("", " /help")),
        (" quit", ("", " quit")),
        ("/TEMP 1 ", ("/temp", "1")),
        ("Length 30", ("/length", "30")),
        ("tokens 30", ("/tokens", "30")),
        ("exit", ("/quit", "")),
        ("/q", ("/quit", "")),
        ("/?", ("/help", "")),
        ("/", ("/help", "")),
        ("length is all", ("", "length is all")),
        ("length 5 metres", ("", "length 5 metres")),
        ("quit it", ("", "quit it")),
        ("/hu  Good /morning", ("/hu", "Good /morning")),
    ],
)
def test_a_line_is_a_command_or_a_text(line, read):
    assert read_line(line) == read


@pytest.mark.parametrize(
    ("line", "mend"),
    [("/transalte x", "/translate"), ("/resets", "/reset"), ("/rest", "/reset"), ("/%$#", "/help lists")],
)
def test_the_nearest_command_is_named(line, mend):
    with pytest.raises(UserError, match="there is no command") as error:
        read_line(line)
    assert mend in error.value.mend
    assert "\n" not in error.value.mend


def test_numbers_are_those_of_the_sampler():
    sampling = with_number(Sampling(seed=3), "/temp", "0.25")
    assert with_number(sampling, "/length", "7") == Sampling(seed=3, temperature=0.25, max_tokens=7)
    for command, word in (("/temp", "-1"), ("/temp", "inf"), ("/temp", "1,5"), ("/tokens", "2000000"), ("/tokens", "")):
        with pytest.raises(UserError, match=f"{command} takes"):
            with_number(sampling, command, word)


def test_the_page_lists_the_commands_as_help_does():
    page = (ROOT / "docs/chat.md").read_text()
    for name, command in COMMANDS.items():
        assert f"`{name}{' ' if command.takes else ''}{command.takes}`" in page, name
