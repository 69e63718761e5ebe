"""What figures share: style, simplices, attention along a text."""
