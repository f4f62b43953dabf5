"""Pictures from arrays: every function takes arrays and gives a figure or picture; nothing here opens artefacts."""

#: every kind of picture that `fertool visualize` draws, and what it shows
KINDS = {
    "gradcam": "which parts of faces speak for their class: Grad-CAM and guided Grad-CAM of runs side by side",
    "mean-attention": "mean face, mean attention and their product for every emotion, beside its Action Units",
    "group": "attention over whole images of several people, and on the faces among it (--photos)",
    "grid": "weights of the parts of single faces as grids, of runs side by side",
    "obscure": "what covering a part of a face does to the weights of all its parts",
    "regions": "weights of the regions of single faces, of one or two runs: µν / Σµν or softmax(µν)",
    "attention": "attention as maps over single faces",
    "trace": "how the attention of tracked faces moved in training",
    "confusion": "confusion matrices side by side",
    "curves": "loss and accuracy as training went on",
    "robustness": "accuracy over the covered fraction of the face (build-subsets --synthesise) and over head pose",
    "crops": "the regions that crop-regions cut",
    "landmarks": "landmarks of single faces, and the regions that hang on them",
    "masks": "masks of the regions; of a run that finds them itself, how well it does",
    "steps": "from the image to the aligned face, step by step (--photos)",
}

#: those that can be drawn of a dataset's faces, without a run
OF_FACES = ("crops", "landmarks", "masks", "steps")
