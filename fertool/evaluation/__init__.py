"""From predictions to a verdict: metrics, the papers' numbers, tables."""
