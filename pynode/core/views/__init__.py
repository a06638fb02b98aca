"""What a solution looks like elsewhere: arrays, tables, files and pictures."""
