from projects.masktrack_rcnn.config import add_masktrack_rcnn_config

__all__ = ["add_masktrack_rcnn_config"]
