"""The metrics exporter: each source is fetched, mapped to families, and wired into one scrape (docs/metrics.md)."""
