"""Labelled faces rendered from the MakeHuman head (CC0): geometry, expressions, scene, pixels."""
