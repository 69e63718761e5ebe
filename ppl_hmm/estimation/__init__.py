"""Models from text: expectation-maximisation, where it starts, and draws of posteriors."""
