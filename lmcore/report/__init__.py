"""The report of a run: one HTML file that needs nothing else and runs nothing."""

from lmcore.report.page import write_report
from lmcore.report.view import RunView, StageRow

__all__ = ["RunView", "StageRow", "write_report"]
