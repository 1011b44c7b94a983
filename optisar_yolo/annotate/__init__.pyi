from .choose import (
    Annotation as Annotation,
    choose_annotations as choose_annotations,
)
from .files import find_images as find_images
from .options import AnnotateOptions as AnnotateOptions
from .pool import load_pool as load_pool
from .run import (
    Annotator as Annotator,
    annotate_images as annotate_images,
)
