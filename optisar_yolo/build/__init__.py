"""Data-set construction: the steps of `optisar dataset`."""
