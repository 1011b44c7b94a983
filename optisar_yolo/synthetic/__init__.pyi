from .render import (
    NAMES as NAMES,
    render_dataset as render_dataset,
    render_image as render_image,
    render_wind_farm as render_wind_farm,
)
from .wind import WIND_TURBINE as WIND_TURBINE
