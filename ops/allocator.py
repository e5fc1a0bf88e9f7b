"""What glibc's allocator is told in every process that computes: in workers, and where the benchmark compares."""

# Left alone, it gives the memory of a forward pass back to the kernel after each and asks for it anew: a tenth of
# torch's time in float32 (docs/batching.md). 32 MiB is the most it takes for a block of its own.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
