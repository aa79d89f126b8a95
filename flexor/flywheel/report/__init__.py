"""Pages that explain a run or an episode afterwards, each one HTML file that needs nothing else (docs/report.md)."""
