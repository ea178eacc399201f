"""Studies of this family; see :mod:`workbench.studies`."""
