"""Models from text: expectation-maximisation, and where it starts."""
