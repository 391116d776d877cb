"""A run as one HTML file that asks no other host for anything: figures, numbers, settings, what to be careful of.

report(log)        the page as text (document.py)
contents(log)      its sections and figures, without drawing them (dashboard/figures/catalogue.py)
"""

from dashboard.figures.catalogue import contents
from dashboard.report.document import ours, report

__all__ = ["contents", "ours", "report"]
