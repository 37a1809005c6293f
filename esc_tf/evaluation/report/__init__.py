"""Reports for readers: a page for each run, and a page that compares several."""

from esc_tf.evaluation.report.comparison import write_comparison
from esc_tf.evaluation.report.run_report import DEFAULT_MAX_ERRORS, write_report
from esc_tf.evaluation.run_files import RunFiles, read_run_files

__all__ = [
    "DEFAULT_MAX_ERRORS",
    "RunFiles",
    "read_run_files",
    "write_comparison",
    "write_report",
]
