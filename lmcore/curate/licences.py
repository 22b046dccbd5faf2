"""Which licences a corpus may hold: patterns over SPDX identifiers, compound expressions among them.

The expressions are read by the package `license-expression` with the SPDX list that it brings (SPDX 2.3, annex D).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from lmcore.config import Params

UNKNOWN = ("", "unknown", "noassertion", "none")
"""What says, in lower case, that nothing is known of a licence (the last two are SPDX's own words)."""


class LicencesParams(Params):
    """Which licences are allowed; without a list every one is."""

    allow: tuple[str, ...] = Field(
        default=(),
        description="SPDX identifiers, * and ? allowed, such as CC-BY-* or MIT; of a text under A OR B one is enough,"
        " under A AND B both must be here. Empty: every licence is allowed.",
    )
    unknown: Literal["keep", "drop"] = Field(default="keep", description="What is done with texts of unknown licence.")

    @field_validator("allow")
    @classmethod
    def _patterns(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        identifiers = _spdx_identifiers()
        for pattern in allow:
            if pattern.lower() in UNKNOWN:
                raise ValueError(f"{pattern!r} is no licence: say `unknown: keep` or `unknown: drop`")
            custom = pattern.lower().startswith("licenseref-")
            if not custom and not any(fnmatchcase(name, pattern.lower()) for name in identifiers):
                raise ValueError(
                    f"no SPDX licence is called {pattern!r}: identifiers are like CC-BY-4.0, MIT, Apache-2.0"
                )
        return allow


def allowed(licences: Sequence[str], params: LicencesParams) -> NDArray[np.bool_]:
    """(T,) whether a text under each licence may be kept. Every distinct licence is read once."""
    known = {licence: _allowed(licence, params) for licence in set(licences)}
    return np.fromiter((known[licence] for licence in licences), bool, len(licences))


def _allowed(licence: str, params: LicencesParams) -> bool:
    """Raises nothing: what cannot be read as an expression is unknown, unless a pattern names it as it stands."""
    from license_expression import ExpressionError

    if licence.strip().lower() in UNKNOWN:
        return params.unknown == "keep"
    if not params.allow:
        return True
    patterns = [pattern.lower() for pattern in params.allow]
    if _matches(licence.strip(), patterns):
        return True
    try:
        tree = _spdx().parse(licence, validate=False)
    except ExpressionError:  # not an expression at all, such as two words without an operator between
        return params.unknown == "keep"
    return _judge(tree, patterns, params)


def _judge(tree: Any, patterns: Sequence[str], params: LicencesParams) -> bool:
    """A licence expression's value: OR needs one side, AND both, WITH is judged as a whole or by its licence."""
    spdx = _spdx()
    if isinstance(tree, spdx.OR):
        return any(_judge(part, patterns, params) for part in tree.args)
    if isinstance(tree, spdx.AND):
        return all(_judge(part, patterns, params) for part in tree.args)
    names = [str(tree), *getattr(tree, "aliases", ())]
    if hasattr(tree, "license_symbol"):  # GPL-2.0-only WITH Classpath-exception-2.0: an exception only permits more
        names += [str(tree.license_symbol), *tree.license_symbol.aliases]
    if any(_matches(name, patterns) for name in names):
        return True
    custom = str(tree).lower().startswith("licenseref-")
    known = custom or hasattr(tree, "license_symbol") or str(tree).lower() in _spdx_identifiers()
    return not known and params.unknown == "keep"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in patterns)


@functools.cache
def _spdx() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


@functools.cache
def _spdx_identifiers() -> frozenset[str]:
    """Every SPDX identifier and the older names of the same licences, in lower case."""
    return frozenset(
        name.lower() for symbol in _spdx().known_symbols.values() for name in (symbol.key, *symbol.aliases)
    )
