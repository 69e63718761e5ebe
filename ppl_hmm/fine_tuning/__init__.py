"""Fine-tuning as a kernel method: tangent kernels, regression on them, and how far real training follows."""
