"""What the server of child processes imports once, so that a child starts in milliseconds (see `apart.py`)."""

import torch

import optisar_yolo.api
import optisar_yolo.commands.main
import optisar_yolo.engine
import optisar_yolo.geo
import optisar_yolo.serve.uploads  # noqa: F401

torch.set_num_threads(1)
