from .result import SceneResult as SceneResult
from .run import ground_scene as ground_scene
