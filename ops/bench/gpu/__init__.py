"""The whole GPU check on a machine without a network: see docs/gpu.md. Started by ops/bench/gpu.sh."""
