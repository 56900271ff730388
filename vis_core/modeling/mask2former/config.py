"""Config keys of Mask2Former and of Swin backbones, by their published names where these are read."""

from detectron2.config import CfgNode as CN


def add_mask2former_config(cfg: CN) -> None:
    """Add the segmenter's keys, in place. The defaults are those of the published ResNet-50 model.

    ``MODEL.SEM_SEG_HEAD``'s own defaults, which no other method of ours reads, become the segmenter's.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NAME = "MaskFormerHead"
    # The finest map only joins the masks' map; the others go through the pixel decoder's encoder.
    head.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    head.TRANSFORMER_ENC_LAYERS = 6
    head.TRANSFORMER_ENC_DIM_FEEDFORWARD = 1024
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS = 4

    node = cfg.MODEL.MASK_FORMER = CN()
    # A name in vis_core.modeling.mask2former.QUERY_DECODER_REGISTRY.
    node.TRANSFORMER_DECODER_NAME = "MultiScaleMaskedTransformerDecoder"
    node.NUM_OBJECT_QUERIES = 100
    node.HIDDEN_DIM = 256
    node.NHEADS = 8
    node.DIM_FEEDFORWARD = 2048
    # Predictions, one before each layer and one after the last.
    node.DEC_LAYERS = 10
    # Images are padded to a multiple of this.
    node.SIZE_DIVISIBILITY = 32

    # Losses, and costs of the matcher.
    node.CLASS_WEIGHT = 2.0
    node.MASK_WEIGHT = 5.0
    node.DICE_WEIGHT = 5.0
    node.NO_OBJECT_WEIGHT = 0.1
    # Points at which masks are compared: of OVERSAMPLE_RATIO times as many random ones the least certain, up to a share
    # of IMPORTANCE_SAMPLE_RATIO; the others random.
    node.TRAIN_NUM_POINTS = 112 * 112
    node.OVERSAMPLE_RATIO = 3.0
    node.IMPORTANCE_SAMPLE_RATIO = 0.75

    _add_swin_keys(cfg)


def _add_swin_keys(cfg: CN) -> None:
    """MODEL.BACKBONE.NAME D2SwinTransformer; the defaults are Swin-T's."""
    node = cfg.MODEL.SWIN = CN()
    node.EMBED_DIM = 96
    node.DEPTHS = [2, 2, 6, 2]
    node.NUM_HEADS = [3, 6, 12, 24]
    node.WINDOW_SIZE = 7
    node.DROP_PATH_RATE = 0.3
    node.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    # Compute a block anew in the backward pass instead of keeping what it needs: less memory, a third more time.
    node.USE_CHECKPOINT = False
