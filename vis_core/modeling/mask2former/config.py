"""Config keys of Mask2Former and of Swin backbones, by their published names where these are read."""

from detectron2.config import CfgNode as CN


def add_mask2former_config(cfg: CN) -> None:
    """Add the segmenter's keys, in place. The defaults are those of the published ResNet-50 model.

    ``MODEL.SEM_SEG_HEAD``'s own defaults, which no other method of ours reads, become the segmenter's.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    # Pixel decoder and query decoder (vis_core/modeling/mask2former/head.py).
    head.NAME = "MaskFormerHead"
    # The finest map only joins the masks' map; the others go through the pixel decoder's encoder.
    head.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    # Layers of the pixel decoder's encoder.
    head.TRANSFORMER_ENC_LAYERS = 6
    # Width of their feed-forward networks.
    head.TRANSFORMER_ENC_DIM_FEEDFORWARD = 1024
    # Places that one of its heads looks at in each map.
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS = 4

    node = cfg.MODEL.MASK_FORMER = CN()
    # The query decoder: a name in vis_core.modeling.mask2former.QUERY_DECODER_REGISTRY (CTVIS registers its own).
    node.TRANSFORMER_DECODER_NAME = "MultiScaleMaskedTransformerDecoder"
    # Queries, each of which may find one object of a frame.
    node.NUM_OBJECT_QUERIES = 100
    # Width of a query.
    node.HIDDEN_DIM = 256
    # Attention heads of a decoder layer, and width of its feed-forward network (DIM_FEEDFORWARD).
    node.NHEADS = 8
    node.DIM_FEEDFORWARD = 2048
    # Predictions, one before each layer and one after the last.
    node.DEC_LAYERS = 10
    # Images are padded to a multiple of this.
    node.SIZE_DIVISIBILITY = 32

    # Weights of the losses, and of the costs by which queries and objects are matched.
    node.CLASS_WEIGHT = 2.0  # cross-entropy of the classes
    node.MASK_WEIGHT = 5.0  # cross-entropy of the masks' points
    node.DICE_WEIGHT = 5.0  # Dice of the masks' points
    node.NO_OBJECT_WEIGHT = 0.1  # of queries without an object, in the classes' loss
    # Points at which a mask is compared (TRAIN_NUM_POINTS): the least certain of OVERSAMPLE_RATIO times as many random
    # ones, up to a share of IMPORTANCE_SAMPLE_RATIO; the others random.
    node.TRAIN_NUM_POINTS = 112 * 112
    node.OVERSAMPLE_RATIO = 3.0
    node.IMPORTANCE_SAMPLE_RATIO = 0.75

    _add_swin_keys(cfg)


def _add_swin_keys(cfg: CN) -> None:
    """MODEL.BACKBONE.NAME D2SwinTransformer; the defaults are Swin-T's."""
    # Swin Transformer, MODEL.BACKBONE.NAME D2SwinTransformer (vis_core/modeling/swin.py); the defaults are Swin-T's.
    node = cfg.MODEL.SWIN = CN()
    # Channels of the first stage; each further one has twice as many.
    node.EMBED_DIM = 96
    # Blocks of the four stages.
    node.DEPTHS = [2, 2, 6, 2]
    # Attention heads of the four stages.
    node.NUM_HEADS = [3, 6, 12, 24]
    # Side of the windows that attention is confined to, tokens.
    node.WINDOW_SIZE = 7
    # Share of samples that skip the last block in training; rises evenly from 0 at the first.
    node.DROP_PATH_RATE = 0.3
    # Maps that are handed on.
    node.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    # Compute a block anew in the backward pass instead of keeping what it needs: less memory, a third more time.
    node.USE_CHECKPOINT = False
