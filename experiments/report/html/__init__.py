"""The report as one page that needs nothing else: no script, no font, no picture from elsewhere."""

from experiments.report.html.page import render_html

__all__ = ["render_html"]
