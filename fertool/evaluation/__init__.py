"""Evaluate predictions: metrics, the papers' numbers, tables."""
