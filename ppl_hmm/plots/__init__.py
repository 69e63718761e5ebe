"""Figures: what to draw (``data``) apart from drawing (``figures``)."""
