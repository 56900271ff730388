"""Config keys of VMT. The defaults are those of the three released models, and of SeqFormer where VMT's are unknown."""

from detectron2.config import CfgNode as CN


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
    # Classes of the data set, and logits of a query. Logit i stands for the data set's class i - CLASS_OFFSET; what
    # falls outside of its classes is never put out. The released models have 42 logits, whose indices are YouTube-VIS'
    # own ids 1 to 40.
    node.NUM_CLASSES = 40
    node.NUM_LOGITS = 42
    node.CLASS_OFFSET = 1


def _add_transformer_keys(node: CN) -> None:
    """The clip transformer (vis_core/modeling/clip_transformer)."""
    node.NUM_QUERIES = 300
    node.HIDDEN_DIM = 256
    node.NHEADS = 8
    node.DIM_FEEDFORWARD = 1024
    node.ENC_LAYERS = 6
    node.DEC_LAYERS = 6
    # Maps of stride 8, 16, 32, and one of stride 64 made from the last.
    node.NUM_FEATURE_LEVELS = 4
    # Places that a head looks at in each map.
    node.NUM_POINTS = 4
    node.DROPOUT = 0.1


def _add_mask_keys(node: CN) -> None:
    """The three mask stages."""
    # Channels of the maps of stride 8 and 4 that dynamic convolutions read, and of these convolutions' hidden layers.
    node.MASK_DIM = 8
    node.DYNAMIC_DIM = 8
    # Channels of the map of stride 2, that of the stem included: other stems are brought to it by a 1x1 convolution.
    node.REFINE_DIM = 64
    # No gradient from the mask stages into the backbone's maps of stride 2 and 4, which are frozen in the release. Turn
    # off where the whole backbone is trained.
    node.DETACH_BACKBONE = True
    # "release": pixels near contours of the second stage's masks attend to each other within a frame. "quadtree": see
    # QUADTREE.
    node.REFINER = "release"
    # The refiner's transformer.
    node.REFINE_LAYERS = 3
    node.REFINE_NHEADS = 4
    node.REFINE_DIM_FEEDFORWARD = 2048
    node.REFINE_DROPOUT = 0.1
    # Pixels of a frame that are refined at most (0 = all of them), and which ones if there are more: "random", by a
    # generator of its own, so that a frame's result does not depend on what ran before, or "strided", every n-th.
    node.MAX_POINTS = 12000
    node.POINT_SAMPLING = "random"
    # Boxes that leave the frame at the top or left give no box mask, as in the released code (False), or one of their
    # visible part (True).
    node.CLAMP_BOX_MASK = False


def _add_quadtree_keys(parent: CN) -> None:
    """REFINER "quadtree" (quadtree.py)."""
    node = parent.QUADTREE = CN()
    # Nodes, and hidden channels of the detector of incoherent cells.
    node.DIM = 64
    node.DETECTOR_DIM = 16
    # The nodes' transformer.
    node.LAYERS = 3
    node.NHEADS = 4
    node.DIM_FEEDFORWARD = 256
    # A cell is incoherent from this probability on.
    node.THRESHOLD = 0.3
    # Frames whose nodes see each other at test time, and nodes of an instance in them; the most incoherent ones.
    node.WINDOW = 5
    node.MAX_NODES = 4096


def _add_training_keys(parent: CN) -> None:
    matcher = parent.MATCHER = CN()
    matcher.CLASS_WEIGHT = 2.0
    matcher.BOX_WEIGHT = 5.0
    matcher.GIOU_WEIGHT = 2.0

    loss = parent.LOSS = CN()
    # Every decoder layer.
    loss.CLASS_WEIGHT = 2.0
    loss.BOX_WEIGHT = 5.0
    loss.GIOU_WEIGHT = 2.0
    loss.MASK_WEIGHT = 2.0
    loss.DICE_WEIGHT = 5.0
    # Masks of the second stage, at stride 2.
    loss.SECOND_MASK_WEIGHT = 2.0
    loss.SECOND_DICE_WEIGHT = 5.0
    # Refined masks at full resolution; dice over the refined pixels only; the union of a frame's instances.
    loss.REFINED_MASK_WEIGHT = 2.0
    loss.REFINED_DICE_WEIGHT = 5.0
    loss.REFINED_DETAIL_WEIGHT = 5.0
    loss.UNION_MASK_WEIGHT = 1.0
    loss.UNION_DICE_WEIGHT = 1.0
    # The last stage is costly: at most so many clips of a process's batch, consecutive frames of these and objects in
    # them go through it, drawn at random; 0 = all.
    loss.REFINED_CLIPS = 0
    loss.REFINED_FRAMES = 0
    loss.REFINED_INSTANCES = 10
    # Train the last stage alone, all before it stays as MODEL.WEIGHTS left it: to compare refiners of one model.
    loss.REFINER_ONLY = False
    # REFINER "quadtree": where a mask is incoherent, and the nodes' own labels.
    loss.INCOHERENCE_WEIGHT = 1.0
    loss.NODE_WEIGHT = 1.0
    # What pixels beyond a frame's edge are to the mask losses: "ignore"d, or "background" as in SeqFormer.
    loss.PADDING = "ignore"


def _add_test_keys(parent: CN) -> None:
    node = parent.TEST = CN()
    # Pairs of query and class with the highest scores of a clip, whose queries become instances; and of a video.
    node.NUM_INSTANCES = 10
    node.NUM_OUTPUTS = 10
    # A result with a lower score has no masks, as in the released code.
    node.MIN_SCORE = 0.001
    # Which stage's masks are put out: "coarse", "second" or "refined".
    node.STAGE = "refined"
    # Frames that go through backbone and encoder together on a GPU; one by one on a CPU.
    node.FRAMES_PER_BATCH = 5
    # Run the network in float16 on CUDA. The published numbers are of float32.
    node.AUTOCAST = False
    # A longer video is cut into clips of WINDOW frames that share OVERLAP frames with the one before; 0 = never, as in
    # the released code. No video of YouTube-VIS 2019 and HQ-YTVIS is longer than 36 frames.
    node.WINDOW = 40
    node.OVERLAP = 12
    # Instances of two clips are linked by soft mask IoU in the frames they share and cosine similarity of their
    # queries, each with its weight; the weighted mean must exceed LINK_THRESHOLD.
    node.LINK_IOU_WEIGHT = 1.0
    node.LINK_QUERY_WEIGHT = 0.5
    node.LINK_THRESHOLD = 0.3
