from .equals import gates as gates
from .plmoe_fitted import FittedPLMoE as FittedPLMoE
from .tgdf_closed import ClosedTGDFSSA as ClosedTGDFSSA
