"""How fast a running deployment answers, against what the same model does in process on the same texts."""
