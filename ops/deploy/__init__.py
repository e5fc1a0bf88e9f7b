"""Replace a served model by another archive while it is served."""
