from .render import (
    NAMES as NAMES,
    render_dataset as render_dataset,
    render_image as render_image,
)
from .telescopes import RADIO_TELESCOPE as RADIO_TELESCOPE
