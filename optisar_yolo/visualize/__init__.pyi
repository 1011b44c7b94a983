from .draw import GroundingResults as GroundingResults
from .figures import (
    COLOURS as COLOURS,
    PANEL_GAP as PANEL_GAP,
    PANEL_HEAD as PANEL_HEAD,
    PANEL_SHORTEST as PANEL_SHORTEST,
    PANEL_TITLE as PANEL_TITLE,
    PANEL_WIDTH as PANEL_WIDTH,
    add_box as add_box,
    add_colour_bar as add_colour_bar,
    colour_of as colour_of,
    draw_box as draw_box,
    draw_image as draw_image,
    draw_lines_above as draw_lines_above,
    draw_map as draw_map,
    draw_text as draw_text,
    panel_grid as panel_grid,
    save_figure as save_figure,
    style_axes as style_axes,
    wrap_heading as wrap_heading,
)
from .fonts import TextFonts as TextFonts
from .frame import Frame as Frame
from .overlay import (
    PALETTE as PALETTE,
    draw_predictions as draw_predictions,
)
from .page import (
    Section as Section,
    write_index as write_index,
)
from .sheet import (
    EvaluatedExpression as EvaluatedExpression,
    batch_sheet as batch_sheet,
    draw_sheet as draw_sheet,
)
