"""Which faces are occluded, turned away, listed by somebody else, or twice in a data set."""

OCCLUSIONS = ("upper", "bottom", "left-right", "glasses-mask")
