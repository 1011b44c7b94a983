"""Lets ``python -m optisar_yolo`` stand for the command ``optisar``."""

import sys

from optisar_yolo.commands.main import main

sys.exit(main())
