"""What every part stands on: records, tokens, checks, randomness, files."""
