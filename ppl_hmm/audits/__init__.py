"""The audit: every question about a model and a task, its tree, its report and its figures."""
