from projects.ctvis.config import add_ctvis_config
from projects.ctvis.learner import ContrastiveLearner
from projects.ctvis.model import CTVIS
from projects.ctvis.query_decoder import CTVISQueryDecoder
from projects.ctvis.tracker import CTVISTracker
from projects.ctvis.tracks import VideoTracks

__all__ = ["CTVIS", "CTVISQueryDecoder", "CTVISTracker", "ContrastiveLearner", "VideoTracks", "add_ctvis_config"]
