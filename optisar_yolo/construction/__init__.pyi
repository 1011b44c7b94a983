from .sources.images import SUFFIXES as SUFFIXES
from .writing.split import (
    Group as Group,
    stratify as stratify,
)
