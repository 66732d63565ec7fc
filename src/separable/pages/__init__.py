"""Building blocks of HTML pages: style, charts, and pages in one file.

The server of `separable explore` and the reports use them. A page loads nothing from other sites,
so that a report can be opened without a network.
"""

from separable.pages.html_tables import table_fragment
from separable.pages.standalone_html import stand_alone

__all__ = ["stand_alone", "table_fragment"]
