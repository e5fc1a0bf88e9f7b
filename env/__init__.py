"""The pinned environment: which pins, how they are installed, and whether they hold (`doctor`)."""
