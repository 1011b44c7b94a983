"""The paper's tables as commands: ``optisar reproduce table1`` to ``table6``."""
