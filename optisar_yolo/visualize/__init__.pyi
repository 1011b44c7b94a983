from .draw import (
    GroundingResults as GroundingResults,
    PALETTE as PALETTE,
    draw_answers as draw_answers,
)
from .figures import (
    COLOURS as COLOURS,
    save_figure as save_figure,
    style_axes as style_axes,
)
from .frame import Frame as Frame
from .page import (
    Section as Section,
    write_index as write_index,
)
from .panels import (
    PANEL_GAP as PANEL_GAP,
    PANEL_HEAD as PANEL_HEAD,
    PANEL_SHORTEST as PANEL_SHORTEST,
    PANEL_TITLE as PANEL_TITLE,
    PANEL_WIDTH as PANEL_WIDTH,
    above as above,
    backdrop as backdrop,
    bar as bar,
    board as board,
    heat as heat,
    lines_above as lines_above,
    outline as outline,
    save as save,
    say as say,
)
from .sheet import (
    batch_sheet as batch_sheet,
    draw_sheet as draw_sheet,
)
