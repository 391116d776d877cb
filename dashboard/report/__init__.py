"""Report of a run as one self-contained HTML file: figures, numbers, settings and warnings.

report(log)        the HTML text (document.py)
contents(log)      sections and figures, without drawing them (dashboard/figures/catalogue.py)
"""

from dashboard.figures.catalogue import contents
from dashboard.report.document import ours, report

__all__ = ["contents", "ours", "report"]
