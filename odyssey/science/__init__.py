"""Pure functions: arrays in, numbers out. Nothing here touches a file or a network."""
