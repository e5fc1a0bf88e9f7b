"""What runs inside a TorchServe worker.

Imports between these modules are relative: an archive carries them under a package name of its own.
"""
