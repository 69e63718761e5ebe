"""Time beside the peers, and the page that shows it: docs/performance.md."""
