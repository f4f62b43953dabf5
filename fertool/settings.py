"""The settings of every stage: one class each, which is also that stage's section of a recipe.

Types, bounds, defaults and help are written here once: recipes are checked against them and command-line options
are made from them. The settings of a network stand beside the network, in `fertool.models`.

These are plain dataclasses because `fertool --help` imports them; `fertool.recipe.build` checks values with pydantic.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from fertool.plugins import PluginName, resolve

#: what the random generators of all libraries take
LARGEST_SEED = 2**63 - 1

GROUPS = "column of the faces to group scores by, e.g. gender, yaw, size, or age:20,40,60"
PAPER = "published numbers to compare with: a paper or a .yaml file (default: those of the run's recipe or network)"

#: of factors that optimisers work with: float32 ends at 3e38
LARGEST = 1e30


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings. A field is `name: Annotated[type, bounds..., "help"] = default`."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "allow_inf_nan": False}

    #: fields that came later: a file names them only where they are used, so that earlier files are still up to date
    LATER: ClassVar[frozenset[str]] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        """Return all settings as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def deciding(self) -> dict[str, Any]:
        """Return all settings as a file names them, from which its digest is made."""
        defaults = {f.name: f.default for f in fields(self)}
        return {k: v for k, v in self.as_dict().items() if k not in self.LATER or v != defaults[k]}


@dataclass(frozen=True, kw_only=True)
class DetectAlign(Settings):
    """detect-align: images → aligned faces."""

    detector: Annotated[
        str,
        PluginName("detectors"),
        "face detector: mtcnn, dlib-hog, dlib-cnn, the dataset's boxes (`dataset`), `none` for the whole image, or a "
        "plugin",
    ] = "mtcnn"
    box: Annotated[
        tuple[float, float, float, float] | None,
        "with `detector: dataset`, one box x0, y0, x1, y1 in pixels for all images, instead of the dataset's",
    ] = None
    landmarks: Annotated[
        str,
        PluginName("landmarks"),
        "landmark model: dlib's 68 points (`ert68`), MTCNN's five (`mtcnn5`), a model trained by fit-sdm (`sdm`), the "
        "dataset's own (`dataset`), `none`, or a plugin",
    ] = "ert68"
    sdm: Annotated[str | None, "with `landmarks: sdm`, a file written by fit-sdm"] = None
    align: Annotated[
        Literal["similarity", "affine", "frontal", "none"],
        "transform from landmarks to the template; `frontal`: rotation to the front by a 3-D surface, `none`: crop of "
        "the box",
    ] = "similarity"
    template: Annotated[
        Literal["eyes-mouth", "eyes", "dlib-chip"],
        "positions of the landmarks in the output, see `fertool.faces.align.TEMPLATES`",
    ] = "eyes-mouth"
    size: Annotated[int, Gt(0), "output size in pixels; the width, if `height` is given"] = 224
    height: Annotated[Annotated[int, Gt(0)] | None, "output height in pixels (default: as `size`)"] = None
    grey: Annotated[bool, "one channel (grey) instead of three (RGB)"] = False
    pose: Annotated[
        Literal["learned", "landmarks", "sixd"],
        "head pose estimator: a network trained on rendered heads, a mean head fitted to 68 landmarks, or 6DRepNet",
    ] = "learned"
    pose_weights: Annotated[str | None, "with `pose: sixd`, file of 6DRepNet's published weights"] = None
    illumination: Annotated[
        Literal["none", "isotropic"],
        "illumination normalisation; `isotropic` divides grey faces by luminance estimated by isotropic diffusion",
    ] = "none"
    diffusion: Annotated[
        float,
        Gt(0),
        "smoothness λ of the estimated luminance; not in VA-CNN's paper, 7 is the INface toolbox's",
    ] = 7.0
    clip_fraction: Annotated[
        float,
        Ge(0),
        Lt(0.5),
        "with `isotropic`, fraction of pixels clipped at each end of the histogram; the INface toolbox's",
    ] = 0.004
    margin: Annotated[float, Ge(0), Le(1), "with `align: none`, margin around the box as a fraction of its side"] = 0.15
    on_no_face: Annotated[
        Literal["keep", "mark", "fail"],
        "image without a detected face: keep the whole image, mark the row, or fail",
    ] = "keep"
    min_score: Annotated[float, "smallest detection score; below 0, dlib's detectors return less certain faces"] = 0.0
    upsample: Annotated[int, Ge(0), "how often dlib's detectors double the image size to find small faces"] = 1
    data: Annotated[
        dict[str, Any], "options of the dataset, e.g. `data: {images: original}`; see: fertool datasets"
    ] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return height, width and channels of a face."""
        return self.height or self.size, self.size, 1 if self.grey else 3

    @property
    def needs_torch(self) -> bool:
        """Return whether a network runs that is worth a GPU; the one of `pose: learned` is not."""
        used = (("detectors", self.detector), ("landmarks", self.landmarks))
        return self.pose == "sixd" or any(resolve(group, name).object.uses_torch for group, name in used)


@dataclass(frozen=True, kw_only=True)
class FitSdm(Settings):
    """fit-sdm: faces with landmarks → supervised descent model (Xiong & De la Torre, CVPR 2013)."""

    splits: Annotated[tuple[str, ...], "training splits of a faces file; faces without a split are always used"] = (
        "train",
    )
    mirror: Annotated[bool, "also train on mirrored faces (5 or 68 landmarks)"] = True
    perturbations: Annotated[int, Gt(0), "perturbed initial shapes per face, and per mirrored face"] = 6
    max_samples: Annotated[int, Gt(0), "maximum number of initial shapes; of more faces some are sampled"] = 20_000
    cells: Annotated[
        tuple[Annotated[float, Gt(0), Lt(1)], ...],
        "cell size of the descriptors of each step, as a fraction of the distance between the eyes",
    ] = (0.35, 0.25, 0.17, 0.12)
    rotation: Annotated[float, Ge(0), "rotation of the initial shapes in degrees (standard deviation)"] = 8.0
    scale: Annotated[float, Ge(0), Lt(1), "scale error of the initial shapes as a fraction (standard deviation)"] = 0.1
    shift: Annotated[
        float,
        Ge(0),
        Lt(1),
        "shift of the initial shapes as a fraction of the distance between the eyes (standard deviation)",
    ] = 0.1
    ridge: Annotated[
        float, Gt(0), "λ of the ridge regressions, relative to the mean sum of squares of a descriptor's value"
    ] = 3.0
    seed: Annotated[int, Ge(0), "random seed of the initial shapes"] = 0


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
    train_samples: Annotated[int, Gt(0), "training faces of each attribute group, half of them positive"] = 30_000
    val_samples: Annotated[int, Gt(0), "validation faces of each attribute group, half of them positive"] = 3_000
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

    LATER = frozenset({"patience", "patience_on", "mixup", "cutmix", "erase", "jitter"})

    model: Annotated[dict, "network (`name`) and its settings, see `fertool models NAME`"] = field(
        default_factory=lambda: {"name": "ran"}
    )
    init: Annotated[
        Annotated[str, MinLen(1)] | None,
        "initial weights: `none`, `imagenet`, `dlib`, `timm`, a run, or a .safetensors, .pth or dlib's .dat file "
        "(default: `dlib` for the backbone dlib-resnet29, `none` for others)",
    ] = None
    labels: Annotated[
        Literal["majority", "distribution", "list"],
        "targets: one label per face, the label distribution, or the labels and splits of the released lists",
    ] = "majority"
    train_splits: Annotated[tuple[str, ...], "training splits"] = ("train",)
    val_split: Annotated[str, "split evaluated after every epoch"] = "test"
    fold: Annotated[Annotated[int, Ge(0)] | None, "test fold of build-subsets, instead of splits"] = None
    select_on: Annotated[
        Literal["last", "val", "test"], "checkpoint selection; `test` must be spelled out, and every report says so"
    ] = "last"
    global_batch: Annotated[int, Gt(0), "faces (or pairs) per optimiser step over all devices"] = 128
    accumulate: Annotated[
        int,
        Gt(0),
        "gradient accumulation steps per batch, to save memory; batch statistics are then per piece",
    ] = 1
    epochs: Annotated[float, Gt(0), "passes over the training faces, may be a fraction"] = 40
    iterations: Annotated[Annotated[int, Gt(0)] | None, "optimiser steps instead of epochs"] = None
    patience: Annotated[
        int, Ge(0), "end the training when `patience_on` has not improved for so many epochs; 0 is off"
    ] = 0
    patience_on: Annotated[
        Literal["score", "loss"], "with `patience`, what is watched on the validation split: score or loss"
    ] = "score"
    optimizer: Annotated[Literal["sgd", "adam", "adamw"], "optimiser; `adamw`: Adam with decoupled weight decay"] = (
        "sgd"
    )
    lr: Annotated[float, Gt(0), Le(LARGEST), "initial learning rate"] = 0.01
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0), Le(LARGEST)] = 1e-4
    lr_milestones: Annotated[
        tuple[float, ...], "steps at which the learning rate is multiplied by lr_gamma, in lr_unit"
    ] = ()
    lr_every: Annotated[Annotated[float, Gt(0)] | None, "instead of milestones: multiply every N lr_unit"] = None
    lr_unit: Annotated[
        Literal["epoch", "iteration", "fraction"], "unit of the schedule; `fraction` counts the whole training as 1"
    ] = "epoch"
    lr_gamma: Annotated[float, Gt(0)] = 0.1
    lr_schedule: Annotated[
        Literal["step", "cosine"], "`step`: by milestones or every N units; `cosine`: half a cosine from lr to 0"
    ] = "step"
    lr_warmup: Annotated[float, Ge(0), "length of the linear warm-up from 0 to lr, in lr_unit; 0 is off"] = 0.0
    clip_norm: Annotated[float, Ge(0), Le(LARGEST), "largest norm of the gradient of all weights; 0 is off"] = 0.0
    label_smoothing: Annotated[
        float, Ge(0), Lt(1), "share of every target, label or distribution, that is spread evenly over all classes"
    ] = 0.0
    class_weights: Annotated[
        Literal["none", "balanced"],
        "weight of each face's loss; `balanced`: inverse to the number of training faces of its class, 1 on average",
    ] = "none"
    flip: Annotated[float, Ge(0), Le(1), "probability of a horizontal flip"] = 0.5
    rotate: Annotated[float, Ge(0), "largest random rotation in degrees"] = 0.0
    shift: Annotated[float, Ge(0), Le(0.5), "largest random shift, as a fraction of the side"] = 0.0
    scale: Annotated[float, Ge(0), Lt(1), "largest random change of scale, as a fraction"] = 0.0
    rotation_angles: Annotated[
        tuple[float, ...], "rotate by one of these angles in degrees, instead of by `rotate`"
    ] = ()
    expand: Annotated[
        bool, "an epoch shows every face at all rotation angles, and flipped, instead of once at random"
    ] = False
    mixup: Annotated[
        float, Ge(0), Le(LARGEST), "mix every face with another of its batch, share drawn from Beta(N, N); 0 is off"
    ] = 0.0
    cutmix: Annotated[
        float, Ge(0), Le(LARGEST), "paste a rectangle of another face, area drawn from Beta(N, N); with mixup, either"
    ] = 0.0
    erase: Annotated[float, Ge(0), Le(1), "probability that a rectangle of a face is erased"] = 0.0
    jitter: Annotated[
        float, Ge(0), Le(1), "largest random change of brightness, contrast and saturation, as a fraction"
    ] = 0.0
    oversample: Annotated[bool, "sample training faces with replacement, all classes equally often"] = False
    precision: Annotated[Literal["32", "bf16", "16"], "precision of the forward pass"] = "32"
    channels_last: bool = True
    compile: Annotated[bool, "torch.compile the network"] = False
    cache: Annotated[
        Literal["auto", "device", "host", "none"],
        "cache of the faces: on the device, in memory, or none (read from the file)",
    ] = "auto"
    track: Annotated[tuple[str, ...], "ids of faces whose attention is recorded during training"] = ()
    track_every: Annotated[int, Gt(0), "optimiser steps between two records of the tracked faces"] = 50
    checkpoint_minutes: Annotated[float, Gt(0), "largest interval between checkpoints inside an epoch, in minutes"] = 10
    seed: Annotated[int, Ge(0), "random seed of initial weights, order and augmentation"] = 0


@dataclass(frozen=True, kw_only=True)
class Adopt(Settings):
    """adopt: a network or function of others → a run."""

    classes: Annotated[
        tuple[str, ...], "names of its outputs, in their order; `other` for one that is no expression"
    ] = ()
    architecture: Annotated[
        str, "network whose weights the file holds: a name of torchvision, or `timm:NAME`; empty: the file is a program"
    ] = ""
    size: Annotated[
        Annotated[int, Gt(0)] | None,
        "input size in pixels; the width, if `height` is given (default: the ONNX file's; functions: the faces')",
    ] = None
    height: Annotated[Annotated[int, Gt(0)] | None, "input height in pixels (default: as `size`)"] = None
    colour: Annotated[
        Literal["rgb", "bgr", "grey", "grey-3"], "channels of the input; `grey-3`: grey, repeated in three channels"
    ] = "rgb"
    pixels: Annotated[
        Literal["0-255", "0-1", "-1-1", "imagenet"] | None,
        "range of the input's values, before `mean` and `std`; `imagenet`: 0-1 with ImageNet's mean and deviation",
    ] = None
    mean: Annotated[tuple[float, ...], "subtracted from the values, one number or one per channel of the input"] = ()
    std: Annotated[tuple[float, ...], "what the values are then divided by, one number or one per channel"] = ()
    layout: Annotated[
        Literal["nchw", "nhwc"], "axes of the input: faces, channels, height, width, or channels last"
    ] = "nchw"
    outputs: Annotated[
        Literal["auto", "logits", "probabilities"], "what the outputs are; `auto`: probabilities if they sum to 1"
    ] = "auto"
    output: Annotated[str, "name of the output of an ONNX file, or key of a dictionary (default: the first)"] = ""
    extra: Annotated[
        Literal["wrong", "renormalise"],
        "outputs that are none of the faces' classes: predictions that are wrong, or left out of the softmax",
    ] = "wrong"


@dataclass(frozen=True, kw_only=True)
class Evaluate(Settings):
    """eval: a run → predictions and scores."""

    split: Annotated[str, "evaluated split"] = "test"
    weights: Annotated[Literal["selected", "last", "best"], "checkpoint; `selected`: by the run's select_on"] = (
        "selected"
    )
    batch: Annotated[int, Gt(0), "faces per forward pass"] = 64
    precision: Annotated[Literal["32", "bf16", "16"], "precision of the forward pass"] = "32"
    confidence: Annotated[float, Gt(0), Lt(1), "level of the confidence intervals"] = 0.95
    crop_repeats: Annotated[
        int, Gt(0), "evaluations, each with newly sampled random crops: mean and standard deviation over them"
    ] = 1
    pairs: Annotated[int, Ge(20), "identity: number of verified pairs, half of them of one subject"] = 6000
    pair_seed: Annotated[int, Ge(0), "identity: random seed of the pairs"] = 0
    paper: Annotated[str, PAPER] = ""
    by: Annotated[tuple[str, ...], GROUPS] = ()


@dataclass(frozen=True, kw_only=True)
class Visualize(Settings):
    """visualize: a run or artefact → figures and their arrays."""

    faces: Annotated[int, Gt(0), "number of faces per figure"] = 6
    ids: Annotated[tuple[str, ...], "ids of the faces shown"] = ()
    counts: Annotated[bool, "confusion: counts instead of percent"] = False
    dpi: Annotated[int, Gt(0), "resolution of the figures in dots per inch"] = 300
    formats: Annotated[tuple[Literal["png", "pdf", "svg"], ...], "file formats: png, pdf, svg"] = ("png",)
    seed: Annotated[int, Ge(0), "random seed of the faces shown"] = 0
    by: Annotated[
        Literal["class", "subject", "pose"] | None,
        "order of the faces: gradcam by class or subject; attention by class; mean-attention by class or pose",
    ] = None
    target: Annotated[Literal["label", "predicted"], "gradcam: explained class"] = "label"
    layer: Annotated[str, "gradcam: layer (default: the last convolution)"] = ""
    yaw: Annotated[tuple[float, ...], "mean-attention by pose: yaw angles between views in degrees"] = (
        -67.5,
        -22.5,
        22.5,
        67.5,
    )
    region_weights: Annotated[
        Literal["share", "softmax"],
        "regions: µν / Σµν, the share of the fused vector, or softmax(µν) over the regions, as in RAN's Fig. 6",
    ] = "share"
    weights: Annotated[str, "grid: attention weights, e.g. `global` or `local` (default: the first)"] = ""
    patches: Annotated[
        tuple[int, ...],
        "occlusion-sensitivity: numbers of the patches, from 1 (default: six spread over the face)",
    ] = ()
    statistics_faces: Annotated[int, Gt(0), "occlusion-sensitivity: number of faces of the statistics"] = 100
    iterations: Annotated[tuple[int, ...], "trace: iterations shown (default: six, evenly spread)"] = ()
    paper: Annotated[str, "confusion: also the matrices of this paper, by name or .yaml file"] = ""
    images: Annotated[str, "group: image or folder of images; preprocessing: folder of the dataset"] = ""
    detector: Annotated[str, PluginName("detectors"), "group: face detector"] = "mtcnn"
    face_width: Annotated[
        Annotated[int, Gt(0)] | None,
        "group: face width in pixels to which images are scaled (default: as the run's faces)",
    ] = None
    box_scale: Annotated[float, Gt(0), "group: size of the soft boxes relative to the detector's"] = 1.2
    box_falloff: Annotated[
        float, Gt(0), "group: falloff of the soft boxes, deviation of the Gaussian as a fraction of the side"
    ] = 0.15


@dataclass(frozen=True, kw_only=True)
class Report(Settings):
    """report: runs → an HTML page."""

    mistakes: Annotated[int, Ge(0), "number of most confident mistakes shown"] = 12
    recognised: Annotated[int, Ge(0), "largest number of recognised faces shown, one per class"] = 8
    confidence: Annotated[float, Gt(0), Lt(1), "level of the confidence intervals"] = 0.95
    seed: Annotated[int, Ge(0), "random seed of the recognised faces"] = 0
    paper: Annotated[str, PAPER] = ""
    by: Annotated[tuple[str, ...], GROUPS] = ()


@dataclass(frozen=True, kw_only=True)
class Predict(Settings):
    """predict: images, videos or a camera → expressions of all faces."""

    detector: Annotated[
        str,
        PluginName("detectors", others=("as-trained",), without=("dataset",)),
        "face detector: mtcnn, dlib-hog, dlib-cnn, that of the run's faces (`as-trained`), `none` if every image is a "
        "face, or a plugin",
    ] = "as-trained"
    min_score: Annotated[float | None, "smallest detection score (default: that of the run's faces)"] = None
    on_no_face: Annotated[
        Literal["skip", "keep"], "image without a detected face: skip it, or keep the whole image as a face"
    ] = "skip"
    sdm: Annotated[str | None, "file of fit-sdm, if the run's landmarks come from it"] = None
    frame_step: Annotated[int, Gt(0), "process every N-th frame of videos and cameras"] = 1
    time_step: Annotated[
        float, Ge(0), "process a frame every so many seconds of videos and cameras instead (default: every frame)"
    ] = 0.0
    track: Annotated[bool, "number every person through a video"] = True
    smooth: Annotated[
        float, Ge(0), "average the probabilities of a person over so many seconds around every frame (default: off)"
    ] = 0.0
    pose: Annotated[bool, "add head pose (pitch, yaw, roll in degrees)"] = False
    landmarks: Annotated[bool, "add landmarks (in pixels of the image)"] = False
    weights: Annotated[Literal["selected", "last", "best"], "checkpoint; `selected`: by the run's select_on"] = (
        "selected"
    )
    batch: Annotated[int, Gt(0), "faces per forward pass"] = 64
    precision: Annotated[Literal["32", "bf16", "16"], "precision of the forward pass"] = "32"


@dataclass(frozen=True, kw_only=True)
class Export(Settings):
    """export: a run → safetensors and ONNX files."""

    weights: Annotated[Literal["selected", "last", "best"], "checkpoint; `selected`: by the run's select_on"] = (
        "selected"
    )
    tolerance: Annotated[
        float, Gt(0), "largest difference between ONNX's and the network's probabilities and attention"
    ] = 1e-3
    by: Annotated[tuple[str, ...], GROUPS] = ()
    opset: Annotated[int, Ge(18), "version of ONNX's operators"] = 18


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
    "adopt": Adopt,
    "eval": Evaluate,
    "visualize": Visualize,
    "report": Report,
    "predict": Predict,
    "export": Export,
}
