"""Floor 8: figures and one self-contained HTML page, from results on disk."""

from subgrid.report.page import write_report

__all__ = ["write_report"]
