"""Config keys of CTVIS. The defaults are those of all six released configs."""

from detectron2.config import CfgNode as CN


def add_ctvis_config(cfg: CN) -> None:
    """Add the method's keys, in place; its segmenter's are those of vis_core/modeling/mask2former/config.py."""
    node = cfg.MODEL.CTVIS = CN()
    # Layers of the head that embeds queries; 0 = the query itself is the embedding.
    node.REID_LAYERS = 3
    # Width of the layers and of the embedding.
    node.REID_DIM = 256
    _add_contrastive_keys(node)
    _add_tracker_keys(node)
    _add_test_keys(node)


def _add_contrastive_keys(parent: CN) -> None:
    # Contrastive training of the embedding (contrastive.py). An item is an object's embedding in one frame, with the
    # embeddings that it is to be like (positives) and those that it is not to be like (negatives).
    node = parent.CONTRASTIVE = CN()
    # Where items come from: a "memory" bank that is built like the tracker's (CTVIS), or "multi_reference": all
    # other frames' embeddings (from the first frame only, if ONE_DIRECTION).
    node.ITEMS = "memory"
    node.ONE_DIRECTION = True
    # Weight of the contrastive loss, over all pairs of a positive and a negative.
    node.REID_WEIGHT = 2.0
    # Weight of the auxiliary loss: cosines with positives are to be 1, with negatives 0.
    node.AUX_REID_WEIGHT = 3.0
    # Negatives of a visible object; 0 = all other queries of the frame (99 of 100, 199 of 200 in the released configs).
    node.NUM_NEGATIVES = 0
    # Half of the positives are the memory bank's fused embeddings instead of the object's last one.
    node.MOMENTUM_EMBED = True
    # Random queries take the place of invisible objects now and then (the paper's noise; unstable with small batches).
    node.NOISE_EMBED = False
    # How often that happens to an invisible object in a frame.
    node.NOISE_PROBABILITY = 0.001
    # Which query is an object's embedding: "published" matches a second time, frame by frame, invisible objects too
    # (which may take a query away from a visible one), and with targets that are stretched where frames were padded.
    # "criterion": the queries that the segmentation losses were computed with.
    node.MATCHING = "published"
    # False: an object's first appearance is lost where as many of the later frames miss it as there were frames before
    # (a slip of the published training).
    node.ALL_FIRST_APPEARANCES = False


def _add_tracker_keys(parent: CN) -> None:
    # The online tracker (tracker.py), and which tracks are kept (tracks.py).
    node = parent.TRACKER = CN()
    # A query with a higher score is a detection; the best always is.
    node.SELECT_THRESHOLD = 0.01
    # A detection with a higher score may begin a track.
    node.INIT_THRESHOLD = 0.01
    # Of detections that overlap by more than this the best stays.
    node.MASK_NMS_THRESHOLD = 0.6
    # How alike a detection and a track are, "bisoftmax" or "cosine"; it must exceed MATCH_THRESHOLD.
    node.METRIC = "bisoftmax"
    node.MATCH_THRESHOLD = 0.3
    # Who gets which track: "greedy", by descending score, tracks of long standing preferred if FRAME_WEIGHT; or
    # "hungarian".
    node.ASSIGNMENT = "greedy"
    node.FRAME_WEIGHT = True
    # How a track's embedding follows its observations, of which CACHE are kept: "similarity_guided" (the more, the more
    # an observation is like those), "last", "momentum" or "time_weighted" (vis_core/tracking/embedding_bank.py).
    node.MEMORY = "similarity_guided"
    node.CACHE = 10
    # Share of the new observation with MEMORY "momentum".
    node.MOMENTUM = 0.75
    # A track unseen for more frames is forgotten.
    node.NUM_DEAD_FRAMES = 20
    # A track's class logits: "mean" or "max" over its frames.
    node.SCORE_TYPE = "mean"
    # From frame NOISE_START + 1 on, tracks are dropped that were seen in fewer than NOISE_SEEN frames, and not in the
    # last NOISE_ABSENT.
    node.NOISE_START = 8
    node.NOISE_SEEN = 3
    node.NOISE_ABSENT = 2


def _add_test_keys(parent: CN) -> None:
    # Inference.
    node = parent.TEST = CN()
    # Frames that go through the network together on a GPU; one by one on a CPU.
    node.WINDOW = 5
    # Pairs of track and class put out per video; 0 = as many as there are classes.
    node.NUM_OUTPUTS = 0
    # Run the network in float16 on CUDA, as for the published numbers. Elsewhere it always runs in float32.
    node.AUTOCAST = True
