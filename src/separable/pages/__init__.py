"""What pages are made of: the house's style and charts, and pages that stand by themselves.

Both the server of `separable explore` and the reports that are single files take them from here.
Nothing is loaded from elsewhere: a report can be opened without a network.
"""

from separable.pages.assets import part
from separable.pages.html_tables import table_fragment
from separable.pages.standalone_html import stand_alone

__all__ = ["part", "stand_alone", "table_fragment"]
