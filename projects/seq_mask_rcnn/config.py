"""Config keys of Seq Mask R-CNN. The defaults are those of the released YouTube-VIS models."""

from detectron2.config import CfgNode as CN

from vis_core.config import check_choice
from vis_core.errors import ConfigError
from vis_core.modeling.mmdet import add_mmdet_config

CHOICES = {
    "KEY_FRAMES": ("released", "even", "paper"),
    "MEM_CAP_RULE": ("least_used", "even"),
    "SCORE_FRAMES": ("present", "all"),
    "SCORE_AREA": ("canvas", "image"),
    "PRECISION": ("float32", "bfloat16", "float16"),
    "REDUCE.TYPE": ("seq_nms", "seq_soft_nms"),
}


def add_seq_mask_rcnn_config(cfg: CN) -> None:
    """Add the method's keys, in place."""
    add_mmdet_config(cfg)
    # Channels of the memory's keys (KEY_DIM) and values (VALUE_DIM; propagation.py). The head's width is that of the
    # feature pyramid.
    cfg.MODEL.PROP_HEAD = CN({"KEY_DIM": 64, "VALUE_DIM": 256})
    node = cfg.MODEL.SEQ_MASK_RCNN = CN()
    _add_propose_keys(node)
    _add_memory_keys(node)
    _add_score_keys(node)
    _add_reduce_keys(node)
    _add_resource_keys(node)
    _add_training_keys(node)


def _add_propose_keys(node: CN) -> None:
    # Key frames of a video, from which objects are propagated.
    node.KEY_NUM = 5
    # Which ones (propose.py): "released" (first to last frame, with the released code's float rounding), "even" (the
    # same without rounding errors) or "paper" (multiples of T // KEY_NUM).
    node.KEY_FRAMES = "released"
    # In a video shorter than KEY_NUM frames a frame is a key frame more than once: keep copies of its sequences, as
    # the released code does (soft-NMS puts out decayed copies), or not.
    node.REPEAT_KEY_FRAMES = True
    # A key frame's detection whose mask overlaps an earlier one's by so much is dropped.
    node.MASK_NMS_IOU = 0.2
    # Propagate detections whose pasted mask has no pixel, as the released code does.
    node.KEEP_EMPTY_MASKS = True


def _add_memory_keys(node: CN) -> None:
    # Frames from one memory entry to the next (MEM_STEP), or entries per video, to which the distance is fitted
    # (MEM_NUM; DAVIS: 10). Exactly one of the two is positive.
    node.MEM_STEP = 1
    node.MEM_NUM = 0
    # At most so many entries per key frame and direction, its own included; 0 = no limit, as released.
    node.MEM_CAP = 0
    # Where there are more, the one goes that was "least_used" by reads so far, or the rest are kept "even" in time.
    node.MEM_CAP_RULE = "least_used"


def _add_score_keys(node: CN) -> None:
    # A sequence's class scores: mean over the frames where the object is "present" (released) or over "all" (paper).
    node.SCORE_FRAMES = "present"
    # Boxes to classify: of all mask pixels on the padded "canvas" (released), or only those inside the "image".
    node.SCORE_AREA = "canvas"


def _add_reduce_keys(node: CN) -> None:
    # From all sequences of a video to distinct ones (reduce.py).
    reduce = node.REDUCE = CN()
    # "seq_nms", or "seq_soft_nms" (DAVIS), which decays scores instead of removing sequences.
    reduce.TYPE = "seq_nms"
    # Sequences with a lower score are dropped.
    reduce.SCORE_THRESH = 0.05
    # "seq_nms": a sequence that overlaps a better one by so much is dropped.
    reduce.IOU_THRESH = 0.5
    # "seq_soft_nms": width of the Gaussian of the overlap that scores decay by.
    reduce.SIGMA = 0.5
    # "seq_soft_nms": sequences put out at most.
    reduce.MAX_SEQ = 20
    # Category-aware reduction, if ENABLED: after seq_nms (with a looser REDUCE.IOU_THRESH, 0.9), soft-NMS for every
    # class with these SIGMA, SCORE_THRESH and MAX_SEQ.
    node.CATE_REDUCE = CN({"ENABLED": False, "SIGMA": 0.5, "SCORE_THRESH": 0.001, "MAX_SEQ": 100})
    # A kept sequence is put out once for every class that it scores at least so much in.
    node.OUTPUT_SCORE_THRESH = 0.05


def _add_resource_keys(node: CN) -> None:
    # What may be kept of frames' features between the forward and the backward pass through a video, MiB. Frames
    # beyond it are computed a second time. A frame of 360 x 640 takes 40.
    node.FEATURE_BUDGET = 2048
    # On a CPU, 3x3 convolutions of propagation in a faster way, whose rounding errors are some five times as large
    # (vis_core/ops/winograd.py).
    node.WINOGRAD = True
    # Faster, with other numbers: look for an object only so many pixels around where it was in the frame before (64 is
    # a good value); 0 = everywhere.
    node.SEARCH_MARGIN = 0
    # Number type of propagation: "float32", "bfloat16" or "float16".
    node.PRECISION = "float32"


def _add_training_keys(node: CN) -> None:
    # Training (training.py).
    train = node.TRAIN = CN()
    # Weight of the propagation loss.
    train.PROP_LOSS_WEIGHT = 1.0
    # At most so many objects of a pair are propagated, drawn at random.
    train.MAX_PROP_OBJECTS = 5
    # Train detection on both frames of a pair, and propagation in both directions. False: as published.
    train.SYMMETRIC = False


def check_settings(node: CN) -> None:
    """Raise ConfigError if the keys MODEL.SEQ_MASK_RCNN have a value that is unknown, or some that contradict."""
    for key, choices in CHOICES.items():
        value = node.REDUCE.TYPE if key == "REDUCE.TYPE" else node[key]
        check_choice(f"MODEL.SEQ_MASK_RCNN.{key}", value, choices)
    if node.KEY_NUM < 1:
        raise ConfigError(f"MODEL.SEQ_MASK_RCNN.KEY_NUM: {node.KEY_NUM} key frames, needs at least 1")
    if (node.MEM_STEP > 0) == (node.MEM_NUM > 0):
        raise ConfigError(
            f"MODEL.SEQ_MASK_RCNN: exactly one of MEM_STEP ({node.MEM_STEP}) and MEM_NUM ({node.MEM_NUM}) must be "
            "positive, the other one 0"
        )
    if node.CATE_REDUCE.ENABLED and node.REDUCE.TYPE != "seq_nms":
        raise ConfigError("MODEL.SEQ_MASK_RCNN.CATE_REDUCE.ENABLED: needs REDUCE.TYPE seq_nms")
