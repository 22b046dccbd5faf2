"""Curation: one spelling, signals, scores, rules, duplicates, split and gates, with a reason for every text."""
