"""Text of characters or words as tokens, and back."""
