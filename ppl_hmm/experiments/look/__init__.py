"""Tables and curves of experiments."""
