from projects.masktrack_rcnn import checkpoint  # noqa: F401  registers the rules for the published weights
from projects.masktrack_rcnn.config import add_masktrack_rcnn_config
from projects.masktrack_rcnn.model import MaskTrackRCNN
from projects.masktrack_rcnn.track_head import TrackHead
from projects.masktrack_rcnn.tracker import ExemplarTracker

__all__ = ["ExemplarTracker", "MaskTrackRCNN", "TrackHead", "add_masktrack_rcnn_config"]
