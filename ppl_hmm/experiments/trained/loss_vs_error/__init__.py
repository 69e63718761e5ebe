"""Language modelling loss against downstream error, after Saunshi, Malladi & Arora (2021), where the truth is known."""
