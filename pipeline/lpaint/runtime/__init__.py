"""How the pipeline runs: parameters, profiles, paths, interruption, resume folders, provenance, messages."""
