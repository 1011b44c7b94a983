from .blocks import (
    ClosedTGDFSSA as ClosedTGDFSSA,
    FittedPLMoE as FittedPLMoE,
)
from .plan import make_plan as make_plan
from .release import (
    gates as gates,
    import_weights as import_weights,
)
from .runs import (
    dry_run as dry_run,
    reproduce as reproduce,
    write_table as write_table,
)
from .tables import (
    TABLES as TABLES,
    published as published,
)
