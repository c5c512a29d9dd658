"""Trainings compared: tracked runs grouped by parameters, with tables, plots and a sheet of paintings."""
