from .render import (
    NAMES as NAMES,
    draw as draw,
    render_dataset as render_dataset,
)
