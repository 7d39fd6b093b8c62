"""The report of an experiment: `build_report` makes the figures, `render_*` show them."""

from experiments.report.build import build_report
from experiments.report.document import Report
from experiments.report.html import render_html
from experiments.report.inputs import Beside
from experiments.report.notebook import notebook
from experiments.report.text import render_text

__all__ = ["Beside", "Report", "build_report", "notebook", "render_html", "render_text"]
