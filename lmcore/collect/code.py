"""Code repositories: what is read of them, and how. `code_reading` reads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal

from pydantic import Field, field_validator

from lmcore.collect.items import Item, Read
from lmcore.collect.params import PathsSource, TextKind
from lmcore.collect.unpack import Member, Unreadable

Judgement = Literal["vendored", "generated", "minified"]


class CodeSource(PathsSource):
    """Source code, one record a file."""

    kind: Literal["code"] = Field(default="code", description="Code repositories: folders, git, archives.")
    text_kind: TextKind = Field(default="code", description="What kind of text this is.")
    paths: tuple[str, ...] = Field(
        min_length=1,
        description="One repository each: folders, git repositories (bare or not), archives of either, globs of these, "
        "or http(s) URLs of archives.",
    )
    revision: str = Field(
        default="",
        pattern=r"^([\w.][\w./+@-]*)?$",
        max_length=200,
        description="Branch, tag or commit of git repositories; empty: a folder as it lies, a bare repository's HEAD.",
    )
    languages: tuple[str, ...] = Field(
        default=(), description="Only these, as Pygments names them (python, c, makefile); empty: all that it knows."
    )
    allow: tuple[str, ...] = Field(
        default=(), description="Only files of a repository that match one of these patterns, as in .gitignore."
    )
    deny: tuple[str, ...] = Field(default=(), description="No files that match one of these (tests/, *.sql).")
    leave_out: tuple[Judgement, ...] = Field(
        default=("vendored", "generated", "minified"),
        description="vendored: copies of others' code, by folder; generated: by a program; minified: for machines.",
    )
    max_file_bytes: int = Field(default=1_000_000, ge=1, le=1_000_000_000, description="Bytes of one file, at most.")
    split_by: Literal["file", "repository"] = Field(
        default="file", description="What is never divided between training and validation."
    )

    @field_validator("languages")
    @classmethod
    def _languages_are_known(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        if languages:
            from lmcore.collect.code_language import known_languages

            for name in languages:
                if name not in known_languages():
                    raise ValueError(f"{name!r} is no language that Pygments names (python, c, c++ is cpp)")
        return languages

    @field_validator("allow", "deny")
    @classmethod
    def _patterns_are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        if patterns:
            import pathspec

            try:
                pathspec.GitIgnoreSpec.from_lines(patterns)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{', '.join(patterns)}: {error}") from error
        return patterns


def _part_of_a_repository(_: Member, __: CodeSource) -> Iterator[Item]:
    raise Unreadable("unknown_format", "a file on its own; name the folder, repository or archive it is in")
    yield


@cache
def formats() -> dict[str, Read]:
    """The suffixes of code, so that what looks at paths finds its files; they are read by `code_reading`."""
    from lmcore.collect.code_language import SUFFIXES

    return dict.fromkeys(SUFFIXES(), _part_of_a_repository)
