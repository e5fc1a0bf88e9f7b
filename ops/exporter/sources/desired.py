"""What is asked for: on which device each served model should compute, and what deploys have removed."""

from collections import Counter

from archives.catalogue import load_catalogue
from archives.errors import ArchivesError
from ops.deploy.removed import removed_workers
from ops.desired import desired_file, read_models
from ops.errors import OpsError
from ops.exporter.families import Families
from ops.exporter.source import SourceError
from ops.settings import Settings


class DesiredSource:
    """models.toml and the desired state."""

    name = "desired"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        try:
            catalogue = load_catalogue(self._settings.models_file)
            removed = removed_workers(self._settings)
            for name in read_models(desired_file(self._settings)):
                families.add("embedkit_removed_workers_total", removed.get(name, 0), model=name)
                if name in catalogue:
                    families.add("embedding_device_expected", 1, model=name, device=catalogue[name].device)
        except (OpsError, ArchivesError, OSError) as error:
            raise SourceError("unreadable", str(error)) from error
