"""Memory, load and disks, as far as the alerts need them: a container's limits where they rule, else the machine."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import psutil

from env.hardware import cpus, memory
from ops.exporter.families import Families
from ops.settings import Settings


def volumes(settings: Settings) -> Mapping[str, Path]:
    """The folders that may fill up."""
    return {"logs": settings.logs, "temp": settings.temp, "store": settings.store}


class HostSource:
    """What the kit runs on."""

    name = "host"

    def __init__(self, settings: Settings) -> None:
        self._volumes = volumes(settings)
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        found, usable = memory(), cpus()
        families.add("host_memory_available_bytes", found.available)
        families.add("host_memory_total_bytes", found.total)
        families.add("host_cpus", usable)
        if usable == os.cpu_count():  # else the machine's load says nothing of the part that is ours
            families.add("host_load1", os.getloadavg()[0])
        for name, folder in self._volumes.items():
            there = next(path for path in (folder, *folder.parents) if path.exists())
            disk = psutil.disk_usage(str(there))
            families.add("host_filesystem_free_bytes", disk.free, volume=name)
            families.add("host_filesystem_size_bytes", disk.total, volume=name)
