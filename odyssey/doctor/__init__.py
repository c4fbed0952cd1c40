"""What can be wrong with an installation, its machine and what it reaches: found before a study is run."""
