"""`embedkit top`: the exporter's figures, live in a terminal."""
