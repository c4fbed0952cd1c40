"""One module per pipeline stage: reads files, calls the science, writes files."""
