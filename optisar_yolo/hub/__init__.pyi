from .card import model_card as model_card
from .download import (
    HubError as HubError,
    fetch_weights as fetch_weights,
    is_hub_name as is_hub_name,
)
from .model import HubModel as HubModel
from .upload import publish as publish
