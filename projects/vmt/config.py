"""Config keys of VMT. The defaults are those of the three released models, and of SeqFormer where VMT's are unknown."""

from detectron2.config import CfgNode as CN

from vis_core.errors import ConfigError


def add_vmt_config(cfg: CN) -> None:
    """Add the method's keys, in place."""
    node = cfg.MODEL.VMT = CN()
    _add_class_keys(node)
    _add_transformer_keys(node)
    _add_mask_keys(node)
    _add_quadtree_keys(node)
    _add_training_keys(node)
    _add_test_keys(node)


def _add_class_keys(node: CN) -> None:
    # Classes of the data set (NUM_CLASSES), and logits of a query (NUM_LOGITS). Logit i stands for the data set's class
    # i - CLASS_OFFSET; what falls outside of its classes is never put out. The released models have 42 logits, whose
    # indices are YouTube-VIS' own ids 1 to 40.
    node.NUM_CLASSES = 40
    node.NUM_LOGITS = 42
    node.CLASS_OFFSET = 1


def _add_transformer_keys(node: CN) -> None:
    """The clip transformer (vis_core/modeling/clip_transformer)."""
    # Queries, each of which may find one object of a clip.
    node.NUM_QUERIES = 300
    # Width of queries and tokens.
    node.HIDDEN_DIM = 256
    # Attention heads of a layer, and width of its feed-forward network (DIM_FEEDFORWARD).
    node.NHEADS = 8
    node.DIM_FEEDFORWARD = 1024
    # Layers of encoder and decoder (DEC_LAYERS).
    node.ENC_LAYERS = 6
    node.DEC_LAYERS = 6
    # Maps the transformer reads: of stride 8, 16, 32, and one of stride 64 made from the last.
    node.NUM_FEATURE_LEVELS = 4
    # Places that a head looks at in each map.
    node.NUM_POINTS = 4
    # Probability of dropout in training.
    node.DROPOUT = 0.1


def _add_mask_keys(node: CN) -> None:
    """The three mask stages."""
    # Channels of the maps of stride 8 and 4 that dynamic convolutions read.
    node.MASK_DIM = 8
    # Channels of these convolutions' hidden layers.
    node.DYNAMIC_DIM = 8
    # Channels of the map of stride 2, that of the stem included: other stems are brought to it by a 1x1 convolution.
    node.REFINE_DIM = 64
    # No gradient from the mask stages into the backbone's maps of stride 2 and 4, which are frozen in the release. Turn
    # off where the whole backbone is trained.
    node.DETACH_BACKBONE = True
    # "release": pixels near contours of the second stage's masks attend to each other within a frame. "quadtree": see
    # QUADTREE.
    node.REFINER = "release"
    # The transformer of the refiner "release".
    node.REFINE_LAYERS = 3  # layers
    node.REFINE_NHEADS = 4  # attention heads
    node.REFINE_DIM_FEEDFORWARD = 2048  # width of the feed-forward networks
    node.REFINE_DROPOUT = 0.1  # probability of dropout in training
    # Pixels of a frame that are refined at most; 0 = all of them.
    node.MAX_POINTS = 12000
    # Which ones if there are more: "random", by a generator of its own, so that a frame's result does not depend on
    # what ran before, or "strided", every n-th.
    node.POINT_SAMPLING = "random"
    # Boxes that leave the frame at the top or left give no box mask, as in the released code (False), or one of their
    # visible part (True).
    node.CLAMP_BOX_MASK = False


def _add_quadtree_keys(parent: CN) -> None:
    """REFINER "quadtree" (quadtree.py)."""
    # The paper's refiner, REFINER "quadtree" (quadtree.py): cells in which masks are incoherent become nodes of a tree.
    node = parent.QUADTREE = CN()
    # Width of a node.
    node.DIM = 64
    # Hidden channels of the detector of incoherent cells.
    node.DETECTOR_DIM = 16
    # The nodes' transformer.
    node.LAYERS = 3  # layers
    node.NHEADS = 4  # attention heads
    node.DIM_FEEDFORWARD = 256  # width of the feed-forward networks
    # A cell is incoherent from this probability on.
    node.THRESHOLD = 0.3
    # Frames whose nodes see each other at test time.
    node.WINDOW = 5
    # Nodes of an instance in these frames; the most incoherent ones.
    node.MAX_NODES = 4096


def _add_training_keys(parent: CN) -> None:
    # Which query answers for which object of a clip: weights of the costs (matcher.py).
    matcher = parent.MATCHER = CN()
    matcher.CLASS_WEIGHT = 2.0  # focal cost of the class
    matcher.BOX_WEIGHT = 5.0  # distance of all frames' boxes
    matcher.GIOU_WEIGHT = 2.0  # generalised IoU of the boxes, mean over the frames

    # Losses and their weights (criterion.py).
    loss = parent.LOSS = CN()
    # Of every decoder layer.
    loss.CLASS_WEIGHT = 2.0  # focal loss of the classes
    loss.BOX_WEIGHT = 5.0  # L1 distance of the boxes
    loss.GIOU_WEIGHT = 2.0  # generalised IoU of the boxes
    loss.MASK_WEIGHT = 2.0  # focal loss of the first stage's masks, at stride 4
    loss.DICE_WEIGHT = 5.0  # Dice of the same masks
    # Of the second stage's masks, at stride 2.
    loss.SECOND_MASK_WEIGHT = 2.0  # focal loss
    loss.SECOND_DICE_WEIGHT = 5.0  # Dice
    # Of the refined masks, at full resolution.
    loss.REFINED_MASK_WEIGHT = 2.0  # focal loss
    loss.REFINED_DICE_WEIGHT = 5.0  # Dice
    loss.REFINED_DETAIL_WEIGHT = 5.0  # Dice over the refined pixels only
    loss.UNION_MASK_WEIGHT = 1.0  # focal loss of the union of a frame's instances
    loss.UNION_DICE_WEIGHT = 1.0  # Dice of the union
    # The last stage is costly: at most so many clips of a process's batch (REFINED_CLIPS), consecutive frames of these
    # (REFINED_FRAMES) and objects in them (REFINED_INSTANCES) go through it, drawn at random; 0 = all.
    loss.REFINED_CLIPS = 0
    loss.REFINED_FRAMES = 0
    loss.REFINED_INSTANCES = 10
    # Train the last stage alone, all before it stays as MODEL.WEIGHTS left it: to compare refiners of one model.
    loss.REFINER_ONLY = False
    # Of the refiner "quadtree".
    loss.INCOHERENCE_WEIGHT = 1.0  # where masks are incoherent
    loss.NODE_WEIGHT = 1.0  # labels of the nodes
    # What pixels beyond a frame's edge are to the mask losses: "ignore"d, or "background" as in SeqFormer.
    loss.PADDING = "ignore"


def _add_test_keys(parent: CN) -> None:
    # Inference.
    node = parent.TEST = CN()
    # Pairs of query and class with the highest scores of a clip whose queries become instances.
    node.NUM_INSTANCES = 10
    # Pairs of instance and class with the highest scores of a video that are put out.
    node.NUM_OUTPUTS = 10
    # A result with a lower score has no masks, as in the released code.
    node.MIN_SCORE = 0.001
    # Which stage's masks are put out: "coarse", "second" or "refined".
    node.STAGE = "refined"
    # Frames that go through backbone and encoder together on a GPU; one by one on a CPU.
    node.FRAMES_PER_BATCH = 5
    # Run the network in float16 on CUDA. The published numbers are of float32.
    node.AUTOCAST = False
    # A video of more frames is cut into clips of WINDOW frames that share OVERLAP frames with the one before; 0 =
    # never, as in the released code. No video of YouTube-VIS 2019 and HQ-YTVIS is longer than 36 frames.
    node.WINDOW = 40
    node.OVERLAP = 12
    # Instances of two clips are linked by soft mask IoU in the frames they share (LINK_IOU_WEIGHT) and cosine
    # similarity of their queries (LINK_QUERY_WEIGHT); the weighted mean must be at least LINK_THRESHOLD.
    node.LINK_IOU_WEIGHT = 1.0
    node.LINK_QUERY_WEIGHT = 0.5
    node.LINK_THRESHOLD = 0.3
    # Of all ways to pair them the one with the greatest sum is taken, where each pair counts with this mean times the
    # product of both instances' best class probabilities to the power of LINK_CONFIDENCE; 0 = confidence is no matter.
    node.LINK_CONFIDENCE = 0.25
    # What remains is compared with the last queries of instances that the clip before lacks: the LINK_MEMORY latest
    # ones (0 = none), if the cosine similarity is at least LINK_MEMORY_THRESHOLD.
    node.LINK_MEMORY = 100
    node.LINK_MEMORY_THRESHOLD = 0.8
    # An instance's class probabilities are multiplied by the share of the video's frames whose clips found it, to this
    # power; 0 = not at all. A video that is one clip is not changed.
    node.COVERAGE_POWER = 0.5


def check_settings(node: CN) -> None:
    """Raise ConfigError if the keys MODEL.VMT leave a class of the data set without a logit."""
    if node.CLASS_OFFSET < 0:
        raise ConfigError(f"MODEL.VMT.CLASS_OFFSET: {node.CLASS_OFFSET}, needs at least 0")
    needed = node.NUM_CLASSES + node.CLASS_OFFSET
    if needed > node.NUM_LOGITS:
        raise ConfigError(
            f"MODEL.VMT.NUM_LOGITS: {node.NUM_LOGITS}, needs at least {needed} "
            f"(NUM_CLASSES {node.NUM_CLASSES} + CLASS_OFFSET {node.CLASS_OFFSET})"
        )
