"""The settings of every stage: one class each, which is also that stage's section of a recipe.

Types, defaults and help are written here once. Unknown keys are errors that name the closest known key. The
settings of a network stand beside the network, in `fertool.models`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt


class Settings(BaseModel):
    """Base of all stage settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DetectAlign(Settings):
    """detect-align: photographs → aligned faces."""

    detector: Literal["dlib-cnn", "dlib-hog", "mtcnn", "shipped", "none"] = "mtcnn"
    """who finds the face; `shipped` takes the data set's boxes, `none` the whole photograph"""
    landmarks: Literal["ert68", "mtcnn5", "shipped", "none"] = "ert68"
    """who places the landmarks: dlib's 68 points, MTCNN's five, the data set's own, or nobody"""
    align: Literal["similarity", "affine", "none"] = "similarity"
    """how landmarks are brought to the template; `none` crops the box without turning it"""
    template: Literal["eyes-mouth", "eyes", "dlib-chip"] = "eyes-mouth"
    """where the landmarks should lie in the output, see `fertool.faces.align.TEMPLATES`"""
    size: PositiveInt = 224
    """side of the output in pixels"""
    grey: bool = False
    """one channel instead of three"""
    margin: float = Field(0.15, ge=0, le=1)
    """with `align: none`, how far the box is widened, as a fraction of its side"""
    missed: Literal["keep", "mark", "refuse"] = "keep"
    """a photograph without a face: keep the whole picture, mark the row only, or stop with an error"""
    min_score: float = Field(0.0, ge=0)
    """detections below this score are not taken"""
    upsample: NonNegativeInt = 1
    """how often a dlib detector doubles the photograph to find small faces"""
    label_rule: Literal["majority", "distribution"] = "majority"
    """FERPlus only: which rule turns ten votes into `label`; the distribution is always stored beside it"""


class MakeMasks(Settings):
    """make-masks: landmarks → MAN's eight region masks."""

    grid: PositiveInt = 14
    """cells per side of a mask (lambda = 1/16 of 224)"""
    region_size_order: Literal["corrected", "paper"] = "corrected"
    """sizes of regions 2 and 3: `paper` takes them literally, which cuts both eyes off"""


class CropRegions(Settings):
    """crop-regions: faces → boxes of the regions a network looks at."""

    mode: Literal["fixed", "random", "landmark"] = "fixed"
    """RAN's five fixed crops, random square crops, or boxes around the five landmarks"""
    ratio_scale: float = Field(1.0, gt=0, le=2)
    """RAN's size sweep: factor on the five crop ratios, each capped at 1"""
    random_n: PositiveInt = 5
    """number of random crops per face"""
    random_ratio: tuple[float, float] = (0.70, 0.95)
    """side of a random crop as a fraction of the face, drawn uniformly from this range"""
    landmark_radius: PositiveFloat = 0.4
    """half the side of a landmark crop as a fraction of the face"""
    materialize: bool = False
    """also store the pixels of every crop (large; networks cut crops on the fly)"""
    seed: NonNegativeInt = 0
    """seed of the random crops"""


class BuildSubsets(Settings):
    """build-subsets: lists, tables and head pose → named subsets of the faces."""

    pose_source: Literal["auto", "list", "estimate", "none"] = "auto"
    """pose30 and pose45 from the lists or from the pose stored with the faces; `auto` prefers lists"""
    pose_thresholds: tuple[float, ...] = (30.0, 45.0)
    """degrees of |yaw| or |pitch| above which a face counts as turned"""
    twins: bool = True
    """look for pictures with exactly equal pixels in different splits"""


class Train(Settings):
    """train: faces → a run."""

    model: dict = Field(default_factory=lambda: {"name": "ran"})
    """the network (`name`) and its own settings, see `fertool models NAME`"""
    init: str = "none"
    """starting weights: `none`, `imagenet`, or a .safetensors, .pth or run.h5 file"""
    labels: Literal["majority", "distribution", "list"] = "majority"
    """what is learnt: one label per face, the label distribution, or the labels and split of the released lists"""
    train_splits: tuple[str, ...] = ("train",)
    """splits of the faces that are trained on"""
    val_split: str = "test"
    """split whose accuracy is shown after every epoch"""
    select_on: Literal["last", "val", "test"] = "last"
    """which checkpoint counts; `test` must be spelled out, and every report says so"""
    global_batch: PositiveInt = 128
    """faces per optimiser step over all devices"""
    accumulate: PositiveInt = 1
    """pieces a device's part of the batch is computed in, to save memory; batch statistics are then per piece"""
    epochs: PositiveFloat = 40
    """passes over the training faces (may be a fraction)"""
    iterations: PositiveInt | None = None
    """optimiser steps, for papers that count those; overrides epochs"""
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: PositiveFloat = 0.01
    """initial learning rate"""
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    lr_milestones: tuple[float, ...] = ()
    """when the rate is multiplied by lr_gamma, in lr_unit"""
    lr_every: PositiveFloat | None = None
    """instead of milestones: multiply after every so many lr_unit"""
    lr_unit: Literal["epoch", "iteration", "fraction"] = "epoch"
    """`fraction` counts the whole training as 1"""
    lr_gamma: PositiveFloat = 0.1
    flip: float = Field(0.5, ge=0, le=1)
    """probability of mirroring a face"""
    rotate: float = Field(0.0, ge=0)
    """largest random rotation in degrees"""
    shift: float = Field(0.0, ge=0, le=0.5)
    """largest random shift as a fraction of the side"""
    zoom: float = Field(0.0, ge=0, lt=1)
    """largest random change of scale as a fraction"""
    oversample: bool = False
    """draw training faces with replacement, each class equally often"""
    precision: Literal["32", "bf16", "16"] = "32"
    """number format of the forward pass"""
    channels_last: bool = True
    compile: bool = False
    """torch.compile the network"""
    cache: Literal["auto", "device", "host", "none"] = "auto"
    """where faces are held: on the device, in memory, or read from the file as needed"""
    checkpoint_minutes: PositiveFloat = 10
    """save at least this often inside an epoch"""
    seed: NonNegativeInt = 0


class Evaluate(Settings):
    """eval: a run → predictions and scores."""

    split: str = "test"
    """split that is scored"""
    weights: Literal["selected", "last", "best"] = "selected"
    """which checkpoint; `selected` is what the run's select_on names"""
    batch: PositiveInt = 64
    precision: Literal["32", "bf16", "16"] = "32"
    confidence: float = Field(0.95, gt=0, lt=1)
    """level of the intervals"""


class Visualize(Settings):
    """visualize: a run or artefact → pictures and the arrays behind them."""

    faces: PositiveInt = 6
    """how many faces a panel shows"""
    ids: tuple[str, ...] = ()
    """these faces instead of chosen ones"""
    dpi: PositiveInt = 150
    seed: NonNegativeInt = 0


#: recipe section (as the command is written) -> settings class
STAGES: dict[str, type[Settings]] = {
    "detect-align": DetectAlign,
    "make-masks": MakeMasks,
    "crop-regions": CropRegions,
    "build-subsets": BuildSubsets,
    "train": Train,
    "eval": Evaluate,
    "visualize": Visualize,
}
