"""A run as one HTML file that asks no other host for anything: figures, numbers, settings, what to be careful of.

report(log)        the page as text (document.py)
contents(log)      its sections and parts, without drawing them (sections.py)
"""

from dashboard.report.document import ours, report
from dashboard.report.sections import contents

__all__ = ["contents", "ours", "report"]
