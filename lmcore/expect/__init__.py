"""What a document claims of a system, held against what a run has measured: a recipe's `expect:` section.

`rows.py` is the section, `metrics.py` what a claim may be about, `finished.py` the run that is asked, `planned.py` what
the settings alone tell, `verdicts.py` what comes of it. This package imports nothing here: a recipe is read quickly.
"""
