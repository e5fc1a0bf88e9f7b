"""Requests to the kit's own ports, which go straight there: a proxy from the environment would answer in their place
and read the canary's secret."""

from typing import Any

import requests


def request(method: str, url: str, *, timeout: float, **options: Any) -> requests.Response:
    """As requests.request, without the environment's proxies and .netrc; raises what it raises."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=timeout, **options)
