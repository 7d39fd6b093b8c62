"""The report of an experiment: `build_report` makes the figures, `render_text` the table."""

from experiments.report.build import build_report
from experiments.report.text import render_text
from experiments.report.values import Report

__all__ = ["Report", "build_report", "render_text"]
