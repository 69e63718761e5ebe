"""Models of several sizes fitted to a corpus, and held to text that they have not seen."""
