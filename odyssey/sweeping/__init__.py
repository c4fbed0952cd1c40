"""A study's missing cells, packed into jobs and done on this machine or by SLURM."""
