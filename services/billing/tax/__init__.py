"""Taxes: what a sale bears by the rates and numbers that are known, and the register of numbers."""
