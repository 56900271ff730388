"""Config keys of CTVIS. The defaults are those of all six released configs."""

from detectron2.config import CfgNode as CN


def add_ctvis_config(cfg: CN) -> None:
    """Add the method's keys, in place; its segmenter's are those of vis_core/modeling/mask2former/config.py."""
    node = cfg.MODEL.CTVIS = CN()
    # The head that embeds queries: layers and their width; 0 layers = the query itself.
    node.REID_LAYERS = 3
    node.REID_DIM = 256
    _add_contrastive_keys(node)
    _add_tracker_keys(node)
    _add_test_keys(node)


def _add_contrastive_keys(parent: CN) -> None:
    node = parent.CONTRASTIVE = CN()
    # Where items come from: a "memory" bank that is built like the tracker's (CTVIS), or "multi_reference": all
    # other frames' embeddings (from the first frame only, if ONE_DIRECTION).
    node.ITEMS = "memory"
    node.ONE_DIRECTION = True
    node.REID_WEIGHT = 2.0
    node.AUX_REID_WEIGHT = 3.0
    # Negatives of a visible object; 0 = all other queries of the frame (99 of 100, 199 of 200 in the released configs).
    node.NUM_NEGATIVES = 0
    # Half of the positives are the memory bank's fused embeddings instead of the object's last one.
    node.MOMENTUM_EMBED = True
    # Random queries take the place of invisible objects now and then (the paper's noise; unstable with small batches).
    node.NOISE_EMBED = False
    # Which query is an object's embedding: "published" matches a second time, frame by frame, invisible objects too
    # (which may take a query away from a visible one), and with targets that are stretched where frames were padded.
    # "criterion": the queries that the segmentation losses were computed with.
    node.MATCHING = "published"
    # False: an object's first appearance is lost where as many of the later frames miss it as there were frames before
    # (a slip of the published training).
    node.ALL_FIRST_APPEARANCES = False


def _add_tracker_keys(parent: CN) -> None:
    node = parent.TRACKER = CN()
    # A query scoring above SELECT_THRESHOLD is a detection (the best always is), above INIT_THRESHOLD it may begin a
    # track.
    node.SELECT_THRESHOLD = 0.01
    node.INIT_THRESHOLD = 0.01
    # Of detections that overlap by more than this the best stays.
    node.MASK_NMS_THRESHOLD = 0.6
    # Affinity with a track, "bisoftmax" or "cosine", must exceed MATCH_THRESHOLD.
    node.METRIC = "bisoftmax"
    node.MATCH_THRESHOLD = 0.3
    # "greedy", by descending score, tracks of long standing preferred if FRAME_WEIGHT; or "hungarian".
    node.ASSIGNMENT = "greedy"
    node.FRAME_WEIGHT = True
    # How a track's embedding follows its observations (vis_core/tracking/embedding_bank.py), of which CACHE are kept.
    node.MEMORY = "similarity_guided"
    node.CACHE = 10
    # A track unseen for more frames is forgotten.
    node.NUM_DEAD_FRAMES = 20
    # A track's class logits: "mean" or "max" over its frames.
    node.SCORE_TYPE = "mean"
    # From frame NOISE_START + 1 on, tracks seen in fewer than NOISE_SEEN frames and not in the last NOISE_ABSENT go.
    node.NOISE_START = 8
    node.NOISE_SEEN = 3
    node.NOISE_ABSENT = 2


def _add_test_keys(parent: CN) -> None:
    node = parent.TEST = CN()
    # Frames that go through the network together on a GPU; one by one on a CPU.
    node.WINDOW = 5
    # Pairs of track and class put out a video; 0 = as many as there are classes.
    node.NUM_OUTPUTS = 0
    # Run the network in float16 on CUDA, as for the published numbers. Elsewhere it always runs in float32.
    node.AUTOCAST = True
