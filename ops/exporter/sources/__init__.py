"""One module a source: fetch what it says, map it to the families of ops/exporter/families.py."""
