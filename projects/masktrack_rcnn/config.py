"""Config keys of MaskTrack R-CNN. The defaults are those of the released models (mmtracking 0.14)."""

from detectron2.config import CfgNode as CN

from vis_core.modeling.mmdet import add_mmdet_config


def add_masktrack_rcnn_config(cfg: CN) -> None:
    """Add the method's keys, in place."""
    add_mmdet_config(cfg)
    _add_track_head_keys(cfg)
    _add_tracker_keys(cfg)


def _add_track_head_keys(cfg: CN) -> None:
    # The head that embeds boxes, and its training (track_head.py).
    node = cfg.MODEL.TRACK_HEAD = CN()
    # Levels of the pyramid that boxes are pooled from.
    node.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    # RoIAlign: cells per side, and samples per side of a cell (POOLER_SAMPLING_RATIO; 0: by the box's size).
    node.POOLER_RESOLUTION = 7
    node.POOLER_SAMPLING_RATIO = 0
    # Fully connected layers.
    node.NUM_FC = 2
    # Width of these layers, and of the embedding.
    node.FC_DIM = 1024
    # After the last layer of the embedding: "relu" (released models) or "none" (the authors' code of 2019).
    node.FINAL_ACTIVATION = "relu"

    # Training draws BATCH_SIZE_PER_IMAGE * POSITIVE_FRACTION positives at most among a key frame's proposals, apart
    # from the box head's sample.
    node.BATCH_SIZE_PER_IMAGE = 128
    node.POSITIVE_FRACTION = 0.25
    # Overlap with an object from which on a proposal is a positive.
    node.IOU_THRESHOLD = 0.5
    # Weight of the match loss.
    node.LOSS_WEIGHT = 1.0
    # What the match loss of a pair of frames is divided by: "matched" = positives whose object is in the reference
    # frame too (released models), "positives" = all (2019).
    node.LOSS_DENOMINATOR = "matched"


def _add_tracker_keys(cfg: CN) -> None:
    # The online tracker (tracker.py).
    node = cfg.MODEL.MASKTRACK = CN()
    # A match's score is the embedding's log-probability plus, with these weights, the logarithm of the detection's
    # score (DET_SCORE), the overlap with the object's last box (IOU), and 1 if both have one label (DET_LABEL).
    node.MATCH_WEIGHTS = CN({"DET_SCORE": 1.0, "IOU": 2.0, "DET_LABEL": 10.0})
    # An object not seen for this many frames is forgotten; 0 = never (2019).
    node.NUM_FRAMES_RETAIN = 20
    # Detections are served by ascending class and then by score ("class_major", mmtracking), or by "score"
    # (mmdetection 3): ids, and which detections survive, depend on it.
    node.DETECTION_ORDER = "class_major"
    # An object's label is that of its "last" or of its "first" detection (2019).
    node.MEMORY_LABEL = "last"
    # An id that two detections of one frame got: "keep" both, put out the "last" one only (2019), or "unique", which
    # takes the id away from the worse match.
    node.REPEATED_IDS = "keep"
    # What a match with a known object must exceed (2019: -100).
    node.MIN_MATCH_SCORE = -1e6
    # log(softmax), which underflows to -inf as in the released models; False: log_softmax (2019).
    node.SOFTMAX_UNDERFLOW = True

    # Frames that go through backbone, RPN and box head together at test time.
    node.FRAMES_PER_BATCH = 1
    # Train detection on the reference frame too, and matching in both directions.
    node.SYMMETRIC_TRAINING = False

    # Batch norm of the backbone (RESNETS.NORM "BN") with statistics that stay as loaded while weight and bias are
    # trained, as mmdetection does; stages up to BACKBONE.FREEZE_AT are fixed altogether.
    cfg.MODEL.BACKBONE.FREEZE_BN_STATISTICS = False
