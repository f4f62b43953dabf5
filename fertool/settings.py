"""The settings of every stage: one class each, which is also that stage's section of a recipe.

Types, bounds, defaults and help are written here once: recipes are checked against them and command-line options
are made from them. The settings of a network stand beside the network, in `fertool.models`.

These are plain dataclasses because `fertool --help` imports them; `fertool.recipe.build` checks values with pydantic.
"""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

#: what the random generators of all libraries take
LARGEST_SEED = 2**63 - 1

#: of factors that optimisers work with: float32 ends at 3e38
LARGEST = 1e30


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings. A field is `name: Annotated[type, bounds..., "help"] = default`."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "allow_inf_nan": False}

    def as_dict(self) -> dict[str, Any]:
        """All settings as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class DetectAlign(Settings):
    """detect-align: photographs → aligned faces."""

    detector: Annotated[
        Literal["dlib-cnn", "dlib-hog", "mtcnn", "shipped", "none"],
        "who finds the face; `shipped` takes the data set's boxes, `none` the whole photograph",
    ] = "mtcnn"
    box: Annotated[
        tuple[float, float, float, float] | None,
        "with `detector: shipped`, this box x0, y0, x1, y1 in pixels for every image, instead of the data set's",
    ] = None
    landmarks: Annotated[
        Literal["ert68", "mtcnn5", "sdm", "shipped", "none"],
        "who places the landmarks: dlib's 68 points, MTCNN's five, a descent learnt by fit-sdm, the data set's own, or "
        "nobody",
    ] = "ert68"
    sdm: Annotated[str | None, "with `landmarks: sdm`, the file that `fertool fit-sdm` wrote"] = None
    align: Annotated[
        Literal["similarity", "affine", "frontal", "none"],
        "how landmarks are brought to the template; `frontal` turns the head to the front by a 3-D surface, `none` "
        "crops the box without turning it",
    ] = "similarity"
    template: Annotated[
        Literal["eyes-mouth", "eyes", "dlib-chip"],
        "where the landmarks should lie in the output, see `fertool.faces.align.TEMPLATES`",
    ] = "eyes-mouth"
    size: Annotated[int, Gt(0), "side of the output in pixels; its width, if `height` is given"] = 224
    height: Annotated[Annotated[int, Gt(0)] | None, "of the output in pixels; default: as high as it is wide"] = None
    grey: Annotated[bool, "one channel instead of three"] = False
    pose: Annotated[
        Literal["learned", "landmarks", "sixd"],
        "who estimates the head pose: a small network that learnt it from rendered heads, a mean head fitted to 68 "
        "landmarks, or 6DRepNet",
    ] = "learned"
    pose_weights: Annotated[str | None, "with `pose: sixd`, the file of 6DRepNet's published weights"] = None
    illumination: Annotated[
        Literal["none", "isotropic"],
        "`isotropic` evens the light: it divides grey faces by the light on them, found by isotropic diffusion",
    ] = "none"
    diffusion: Annotated[
        float,
        Gt(0),
        "how smooth that light is: λ, the factor of its gradient's square; VA-CNN's paper does not give it, 7 is the "
        "INface toolbox's",
    ] = 7.0
    clipped: Annotated[
        float,
        Ge(0),
        Lt(0.5),
        "with `isotropic`, fraction of the pixels that is clipped at each end of the histogram; likewise the INface "
        "toolbox's",
    ] = 0.004
    margin: Annotated[
        float, Ge(0), Le(1), "with `align: none`, how far the box is widened, as a fraction of its side"
    ] = 0.15
    missed: Annotated[
        Literal["keep", "mark", "refuse"],
        "a photograph without a face: keep the whole picture, mark the row only, or stop with an error",
    ] = "keep"
    min_score: Annotated[
        float, "detections below this score are not taken; below 0, dlib's detectors find more and less certain faces"
    ] = 0.0
    upsample: Annotated[int, Ge(0), "how often a dlib detector doubles the photograph to find small faces"] = 1
    label_rule: Annotated[
        Literal["majority", "distribution"],
        "FERPlus only: which rule turns ten votes into `label`; the distribution is always stored beside it",
    ] = "majority"
    votes: Annotated[
        Literal["auto", "fer2013new", "label"],
        "FERPlus only: votes of fer2013new.csv (auto: if it is there), or of label.csv, which RAN's lists follow",
    ] = "auto"
    images: Annotated[
        Literal["auto", "aligned", "original"],
        "RAF-DB and SFEW only: the aligned pictures, if they are there, or the originals",
    ] = "auto"
    points: Annotated[
        Literal["manual", "auto", "both"],
        "RAF-DB only: which shipped landmarks, five by hand, 37 automatic ones, or both: then the eye corners of MAN's "
        "regions are those of the 37, where a face has them",
    ] = "manual"
    frames: Annotated[
        Literal["last3", "first-last"],
        "CK+ and Oulu-CASIA only: the last three pictures of every recording, or its first (neutral) and its last",
    ] = "last3"
    views: Annotated[
        Literal["front", "pose"], "RaFD only: the photographs of the frontal camera, or those of all five"
    ] = "front"
    contempt: Annotated[Literal["keep", "drop"], "AffectNet only: eight classes, or seven without contempt"] = "keep"
    folders: Annotated[
        Literal["emotions", "subjects"],
        "dataset `folder` only: folders are named by emotion, or each holds the images of one person",
    ] = "emotions"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a face."""
        return self.height or self.size, self.size, 1 if self.grey else 3

    @property
    def needs_torch(self) -> bool:
        """Whether a network runs that is worth a GPU; the one of `pose: learned` is not."""
        return self.detector in ("dlib-cnn", "mtcnn") or self.landmarks == "mtcnn5" or self.pose == "sixd"

    @property
    def dataset_options(self) -> dict[str, str]:
        """What the data set's adapter has to know."""
        return {
            name: getattr(self, name)
            for name in ("label_rule", "votes", "images", "points", "frames", "views", "contempt", "folders")
        }


@dataclass(frozen=True, kw_only=True)
class FitSdm(Settings):
    """fit-sdm: faces with landmarks → steps that find them (Xiong & De la Torre, CVPR 2013)."""

    splits: Annotated[tuple[str, ...], "splits of a faces file to learn from; faces of no split always count"] = (
        "train",
    )
    mirror: Annotated[bool, "also learn from every face's mirror image (5 or 68 landmarks)"] = True
    starts: Annotated[int, Gt(0), "perturbed starts of each face, and of its mirror image"] = 6
    most: Annotated[int, Gt(0), "starts in all, at most: of more faces some are drawn"] = 20_000
    cells: Annotated[
        tuple[Annotated[float, Gt(0), Lt(1)], ...],
        "one step for each number: the side of its descriptors' cells, as a fraction of the distance between the eyes",
    ] = (0.35, 0.25, 0.17, 0.12)
    turn: Annotated[float, Ge(0), "starts are turned by so many degrees (standard deviation)"] = 8.0
    scale: Annotated[float, Ge(0), Lt(1), "starts are too large or small by this fraction (standard deviation)"] = 0.1
    shift: Annotated[
        float,
        Ge(0),
        Lt(1),
        "starts lie beside the face by this fraction of the distance between the eyes (standard deviation, each way)",
    ] = 0.1
    ridge: Annotated[
        float, Gt(0), "λ of the ridge regressions, relative to the sum of squares of a descriptor's value"
    ] = 3.0
    seed: Annotated[int, Ge(0), "decides the starts"] = 0


@dataclass(frozen=True, kw_only=True)
class MakeMasks(Settings):
    """make-masks: landmarks → MAN's eight region masks; attributes → the groups that WS-LGRN's AMG is trained on."""

    grid: Annotated[int, Gt(0), "cells per side of a mask (lambda = 1/16 of 224)"] = 14
    region_size_order: Annotated[
        Literal["corrected", "paper"],
        "sizes of regions 2 and 3; `paper` is literal and cuts both eyes off",
    ] = "corrected"
    lip_point: Annotated[
        int,
        Ge(0),
        Le(67),
        "index of l8 among the 68 landmarks, from 0; the paper does not name it: 57 is the middle of the lower lip's "
        "lower edge, 8 the chin",
    ] = 57
    draw_train: Annotated[int, Gt(0), "training faces sampled for each attribute group, half of them positive"] = 30_000
    draw_val: Annotated[int, Gt(0), "validation faces sampled for each attribute group, half of them positive"] = 3_000
    seed: Annotated[int, Ge(0), "random seed of the sampled faces"] = 0


@dataclass(frozen=True, kw_only=True)
class CropRegions(Settings):
    """crop-regions: faces → boxes of the regions that a network takes as input."""

    mode: Annotated[
        Literal["fixed", "random", "landmark", "patches"],
        "RAN's five fixed crops, random square crops, crops around the five landmarks, or LNLAttenNet's patches",
    ] = "fixed"
    ratio_scale: Annotated[
        float, Gt(0), Le(2), "RAN's size sweep: factor on the five crop ratios, each capped at 1"
    ] = 1.0
    random_n: Annotated[int, Gt(0), "random crops per face; training samples new ones in every iteration"] = 3
    random_ratio: Annotated[
        tuple[float, float], "side of a random crop as a fraction of the face, uniform in this range"
    ] = (0.70, 0.95)
    landmark_radius: Annotated[
        float,
        Gt(0),
        "half the side of a crop around a landmark as a fraction of the face; crops are clipped to the face and "
        "resized to a square. RAN's paper uses MTCNN's five landmarks: detect-align --landmarks mtcnn5",
    ] = 0.4
    patches: Annotated[Literal[4, 9, 16, 25, 36], "number of patches, in a square"] = 16
    patch_overlap: Annotated[
        Annotated[int, Ge(0)] | None,
        "overlap of neighbouring patches in 144ths of the face (default: a third of a patch)",
    ] = None
    materialize: Annotated[bool, "also store the pixels of every crop (large; networks crop on the fly)"] = False
    seed: Annotated[int, Ge(0), "random seed of the test crops"] = 0


@dataclass(frozen=True, kw_only=True)
class BuildSubsets(Settings):
    """build-subsets: lists, tables and head pose → named subsets of the faces."""

    pose_source: Annotated[
        Literal["auto", "list", "estimate", "none"],
        "source of pose30 and pose45: the lists or the pose stored with the faces; `auto` prefers lists",
    ] = "auto"
    pose_thresholds: Annotated[tuple[float, ...], "|yaw| or |pitch| in degrees above which a face is in the subset"] = (
        30.0,
        45.0,
    )
    folds: Annotated[int, Ge(0), "number of folds for cross-validation; 0: none"] = 0
    fold_scheme: Annotated[
        Literal["subjects", "rafd", "stratified", "one-subject", "sequences", "faces"],
        "unit and order of the folds: every N-th subject, RaFD's ranges, subjects with balanced classes, one subject "
        "per fold, recordings, or single faces",
    ] = "subjects"
    duplicates: Annotated[bool, "find exact pixel duplicates across splits"] = True


@dataclass(frozen=True, kw_only=True)
class Synthesise(Settings):
    """build-subsets --synthesise: faces → the same faces with occluders of every type and severity."""

    types: Annotated[tuple[Literal["upper", "bottom", "left-right", "glasses-mask"], ...], "types of occlusion"] = (
        "upper",
        "bottom",
        "left-right",
        "glasses-mask",
    )
    severities: Annotated[tuple[float, ...], "covered fractions of the face"] = (0.1, 0.2, 0.3, 0.4, 0.5)
    split: Annotated[str, "split whose faces are occluded"] = "test"
    limit: Annotated[Annotated[int, Gt(0)] | None, "at most this many faces, chosen by their ids"] = None
    seed: Annotated[int, Ge(0), "random seed of the occluders"] = 0


@dataclass(frozen=True, kw_only=True)
class SuggestOcclusion(Settings):
    """suggest-occlusion: faces → suggested occlusion types, to be reviewed."""

    split: Annotated[str, "split whose faces are classified"] = "test"
    min_probability: Annotated[float, Ge(0), Le(1), "smallest probability of occlusion of a suggested face"] = 0.9
    samples: Annotated[int, Ge(100), "with --learn-from: training faces, with and without occluders"] = 9000
    epochs: Annotated[int, Gt(0), "with --learn-from: passes over the training faces"] = 8
    seed: Annotated[int, Ge(0), "with --learn-from: random seed"] = 0


@dataclass(frozen=True, kw_only=True)
class Train(Settings):
    """train: faces → a run."""

    model: Annotated[dict, "the network (`name`) and its own settings, see `fertool models NAME`"] = field(
        default_factory=lambda: {"name": "ran"}
    )
    init: Annotated[
        Annotated[str, MinLen(1)] | None,
        "initial weights: `none`, `imagenet`, `dlib`, a run, or a .safetensors or .pth file (default: `dlib` for the "
        "backbone dlib-resnet29, `none` for others)",
    ] = None
    labels: Annotated[
        Literal["majority", "distribution", "list"],
        "what is learnt: one label per face, the label distribution, or the labels and split of the released lists",
    ] = "majority"
    train_splits: Annotated[tuple[str, ...], "splits of the faces that are trained on"] = ("train",)
    val_split: Annotated[str, "split whose accuracy is shown after every epoch"] = "test"
    fold: Annotated[
        Annotated[int, Ge(0)] | None, "leave out this fold of build-subsets for testing, instead of using splits"
    ] = None
    select_on: Annotated[
        Literal["last", "val", "test"], "which checkpoint counts; `test` must be spelled out, and every report says so"
    ] = "last"
    global_batch: Annotated[int, Gt(0), "faces (or pairs of them) per optimiser step over all devices"] = 128
    accumulate: Annotated[
        int,
        Gt(0),
        "pieces a device's part of the batch is computed in, to save memory; batch statistics are then per piece",
    ] = 1
    epochs: Annotated[float, Gt(0), "passes over the training faces (may be a fraction)"] = 40
    iterations: Annotated[
        Annotated[int, Gt(0)] | None, "optimiser steps, for papers that count those; overrides epochs"
    ] = None
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Annotated[float, Gt(0), Le(LARGEST), "initial learning rate"] = 0.01
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0), Le(LARGEST)] = 1e-4
    lr_milestones: Annotated[tuple[float, ...], "when the rate is multiplied by lr_gamma, in lr_unit"] = ()
    lr_every: Annotated[
        Annotated[float, Gt(0)] | None, "instead of milestones: multiply after every so many lr_unit"
    ] = None
    lr_unit: Annotated[Literal["epoch", "iteration", "fraction"], "`fraction` counts the whole training as 1"] = "epoch"
    lr_gamma: Annotated[float, Gt(0)] = 0.1
    flip: Annotated[float, Ge(0), Le(1), "probability of mirroring a face"] = 0.5
    rotate: Annotated[float, Ge(0), "largest random rotation in degrees"] = 0.0
    shift: Annotated[float, Ge(0), Le(0.5), "largest random shift as a fraction of the side"] = 0.0
    zoom: Annotated[float, Ge(0), Lt(1), "largest random change of scale as a fraction"] = 0.0
    turns: Annotated[tuple[float, ...], "turn a face by one of these angles, in degrees, instead of by `rotate`"] = ()
    expand: Annotated[
        bool, "an epoch shows every face in each of its turns, and mirrored, instead of once in one at random"
    ] = False
    oversample: Annotated[bool, "draw training faces with replacement, each class equally often"] = False
    precision: Annotated[Literal["32", "bf16", "16"], "number format of the forward pass"] = "32"
    channels_last: bool = True
    compile: Annotated[bool, "torch.compile the network"] = False
    cache: Annotated[
        Literal["auto", "device", "host", "none"],
        "where faces are held: on the device, in memory, or read from the file as needed",
    ] = "auto"
    track: Annotated[tuple[str, ...], "ids of faces whose attention is kept as training goes on"] = ()
    track_every: Annotated[int, Gt(0), "optimiser steps between two looks at the tracked faces"] = 50
    checkpoint_minutes: Annotated[float, Gt(0), "save at least this often inside an epoch"] = 10
    seed: Annotated[int, Ge(0), "decides the starting weights, the order of faces and how they are varied"] = 0


@dataclass(frozen=True, kw_only=True)
class Evaluate(Settings):
    """eval: a run → predictions and scores."""

    split: Annotated[str, "split that is scored"] = "test"
    weights: Annotated[
        Literal["selected", "last", "best"], "which checkpoint; `selected` is what the run's select_on names"
    ] = "selected"
    batch: Annotated[int, Gt(0), "faces per forward pass"] = 64
    precision: Annotated[Literal["32", "bf16", "16"], "number format of the forward pass"] = "32"
    confidence: Annotated[float, Gt(0), Lt(1), "level of the intervals"] = 0.95
    draws: Annotated[
        int, Gt(0), "how often random crops are drawn for the test: mean and standard deviation over the draws"
    ] = 1
    pairs: Annotated[int, Ge(20), "identity: pairs of faces that are verified, half of them of one person"] = 6000
    pair_seed: Annotated[int, Ge(0), "identity: decides the pairs"] = 0


@dataclass(frozen=True, kw_only=True)
class Visualize(Settings):
    """visualize: a run or artefact → pictures and the arrays behind them."""

    faces: Annotated[int, Gt(0), "how many faces a panel shows"] = 6
    ids: Annotated[tuple[str, ...], "these faces instead of chosen ones"] = ()
    counts: Annotated[bool, "confusion matrices in counts instead of percent"] = False
    dpi: Annotated[int, Gt(0), "dots per inch of the pictures"] = 300
    formats: Annotated[tuple[Literal["png", "pdf", "svg"], ...], "of the pictures: png, pdf, svg"] = ("png",)
    seed: Annotated[int, Ge(0), "decides which faces are chosen"] = 0
    by: Annotated[
        Literal["class", "person", "pose"] | None,
        "how faces are ordered: gradcam by class (a face each) or person; attention by class, in coloured boxes; "
        "mean-attention by class, or by class and pose",
    ] = None
    target: Annotated[Literal["label", "predicted"], "gradcam: the class that is asked about"] = "label"
    layer: Annotated[str, "gradcam: the layer whose maps are weighed; default: the network's last convolution"] = ""
    yaw: Annotated[
        tuple[float, ...], "mean-attention by pose: degrees between one view and the next, from right to left"
    ] = (-67.5, -22.5, 22.5, 67.5)
    region_weights: Annotated[
        Literal["share", "softmax"],
        "regions: the number above a region: its share of the fused vector, µν / Σµν, or softmax(µν) over the regions, "
        "which RAN's Fig. 6 shows",
    ] = "share"
    weights: Annotated[str, "grid: which of the network's weights, e.g. `global` or `local`; default: the first"] = ""
    patches: Annotated[
        tuple[int, ...], "obscure: numbers of the patches that are obscured, from 1; default: six spread over the face"
    ] = ()
    checked: Annotated[int, Gt(0), "obscure: faces on which it is counted how often an obscured patch loses weight"] = (
        100
    )
    iterations: Annotated[
        tuple[int, ...], "trace: iterations whose weights are shown; default: six, evenly spread over the training"
    ] = ()
    paper: Annotated[bool, "confusion: also the matrices that the network's paper prints for the data set"] = False
    photos: Annotated[str, "group: photographs, a file or a folder; steps: the folder of the data set"] = ""
    detector: Annotated[Literal["mtcnn", "dlib-hog", "dlib-cnn"], "group: who finds the faces"] = "mtcnn"
    face_side: Annotated[
        Annotated[int, Gt(0)] | None,
        "group: photographs are scaled so that their faces are so many pixels wide; default: as in the run's faces",
    ] = None
    box_scale: Annotated[float, Gt(0), "group: how much the soft boxes are larger than the detector's"] = 1.2
    box_falloff: Annotated[
        float, Gt(0), "group: how soft they are, deviation of the Gaussian beyond the box as a fraction of its side"
    ] = 0.15


@dataclass(frozen=True, kw_only=True)
class Report(Settings):
    """report: runs → a page."""

    mistakes: Annotated[int, Ge(0), "how many of its most confident mistakes are shown"] = 12
    recognised: Annotated[int, Ge(0), "how many recognised faces at most, one of each class"] = 8
    confidence: Annotated[float, Gt(0), Lt(1), "level of the intervals"] = 0.95
    seed: Annotated[int, Ge(0), "decides which recognised faces are chosen"] = 0


@dataclass(frozen=True, kw_only=True)
class Predict(Settings):
    """predict: photographs, films or a camera → the expression of every face in them."""

    detector: Annotated[
        Literal["as-trained", "dlib-cnn", "dlib-hog", "mtcnn", "none"],
        "who finds the faces; `as-trained` as in the run's own, `none` takes every photograph as a face",
    ] = "as-trained"
    min_score: Annotated[float | None, "detections below this score are not taken; default: as for the run's faces"] = (
        None
    )
    missed: Annotated[
        Literal["skip", "keep"], "a photograph in which no face is found: none, or the whole picture as one"
    ] = "skip"
    sdm: Annotated[str | None, "the file of fit-sdm, if it placed the landmarks of the run's faces"] = None
    every: Annotated[int, Gt(0), "of a film or camera, only every so-manieth frame"] = 1
    weights: Annotated[
        Literal["selected", "last", "best"], "which checkpoint; `selected` is what the run's select_on names"
    ] = "selected"
    batch: Annotated[int, Gt(0), "faces per forward pass"] = 64
    precision: Annotated[Literal["32", "bf16", "16"], "number format of the forward pass"] = "32"


@dataclass(frozen=True, kw_only=True)
class Export(Settings):
    """export: a run → files that other programs read."""

    weights: Annotated[
        Literal["selected", "last", "best"], "which checkpoint; `selected` is what the run's select_on names"
    ] = "selected"
    tolerance: Annotated[
        float, Gt(0), "how far ONNX's probabilities and attention may lie from the network's, which is checked"
    ] = 1e-3


#: recipe section (as the command is written) -> settings class
STAGES: dict[str, type[Settings]] = {
    "detect-align": DetectAlign,
    "fit-sdm": FitSdm,
    "make-masks": MakeMasks,
    "crop-regions": CropRegions,
    "build-subsets": BuildSubsets,
    "synthesise": Synthesise,
    "suggest-occlusion": SuggestOcclusion,
    "train": Train,
    "eval": Evaluate,
    "visualize": Visualize,
    "report": Report,
    "predict": Predict,
    "export": Export,
}
