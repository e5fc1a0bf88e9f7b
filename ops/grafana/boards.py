"""The dashboards."""

from ops.grafana.machine import MACHINE
from ops.grafana.service import SERVICE

BOARDS = (SERVICE, MACHINE)
