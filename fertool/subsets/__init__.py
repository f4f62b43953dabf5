"""Subsets of a faces file: occlusion, head pose, published lists, duplicates, folds."""

OCCLUSIONS = ("upper", "bottom", "left-right", "glasses-mask")
