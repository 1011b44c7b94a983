"""The ``optisar`` command."""
