"""Figure 3 of Wei, Xie & Ma (2021): both panels."""
