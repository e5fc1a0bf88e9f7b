"""One file that sets up a machine without a network: `embedkit bundle` writes it, `install.py` in it unpacks it."""
