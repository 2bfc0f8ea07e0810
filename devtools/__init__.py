"""What `dev.py` is made of: one concept per file, standard library only."""
