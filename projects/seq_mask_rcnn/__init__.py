from projects.seq_mask_rcnn import checkpoint  # noqa: F401  registers the rules for the published weights
from projects.seq_mask_rcnn.config import add_seq_mask_rcnn_config
from projects.seq_mask_rcnn.model import SeqMaskRCNN
from projects.seq_mask_rcnn.propagation import PropagationHead

__all__ = ["PropagationHead", "SeqMaskRCNN", "add_seq_mask_rcnn_config"]
