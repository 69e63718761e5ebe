"""What a model, its text and its posteriors are like: numbers to read before believing a verdict."""
