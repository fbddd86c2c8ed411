"""What the formulas are made of."""
