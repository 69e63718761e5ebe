"""Fine-tuning against its kernel, on networks trained on text of a known model."""
