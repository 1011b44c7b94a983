from .cleaning import clean_step as clean_step
from .describing import describe_step as describe_step
from .image_files import SUFFIXES as SUFFIXES
from .importing import import_step as import_step
from .recipe import (
    STEPS as STEPS,
    load_recipe as load_recipe,
)
from .review.review import review_step as review_step
from .screening import screen_step as screen_step
from .splitting import (
    Group as Group,
    split_step as split_step,
    stratify as stratify,
)
from .statistics import stats_step as stats_step
from .steps import WorkFolder as WorkFolder
from .transforming import transform_step as transform_step
from .validating import validate_step as validate_step
from .writing import write_step as write_step
