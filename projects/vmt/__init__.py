from projects.vmt import checkpoint  # noqa: F401  registers the rules for the published weights
from projects.vmt.config import add_vmt_config
from projects.vmt.inference import VideoInference
from projects.vmt.model import VMT
from projects.vmt.refiner import ReleaseRefiner

__all__ = ["VMT", "ReleaseRefiner", "VideoInference", "add_vmt_config"]
