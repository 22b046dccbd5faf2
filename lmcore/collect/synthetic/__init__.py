"""Texts made by this program: sentences, stories, translations and tasks in Hungarian and English, and questions and
summaries made of collected articles. Words are data (`*.tsv`, `*.yaml`), grammar is code."""
