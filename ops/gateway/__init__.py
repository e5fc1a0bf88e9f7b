"""The gateway: HAProxy in front of TorchServe, with keys, limits, one /v1 for all models, and patience for restarts."""
