"""A report of shadow mode as one HTML file: it opens from disk, loads nothing and can be sent by mail."""

from strangler_proxy.report_html.page import html

__all__ = ["html"]
