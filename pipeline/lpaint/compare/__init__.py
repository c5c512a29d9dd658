"""Compare tracked trainings, grouped by parameters, with tables, plots and a sheet of paintings."""
