"""Curation: one spelling, signals, scores, rules, exact duplicates, split and gates, with a reason for every text."""

from lmcore.curate.normalise import NORMALISER_VERSION, normalise, text_id
from lmcore.curate.stage import CurateParams, CurateRuntime, curate

__all__ = ["NORMALISER_VERSION", "CurateParams", "CurateRuntime", "curate", "normalise", "text_id"]
