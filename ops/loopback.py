"""Requests to the kit's own ports, which go straight there: a proxy from the environment would answer in their place
and read the canary's secret."""

from typing import Any

import requests
import urllib3

# The gateway's certificate names the host that users know. This is asked on the machine itself.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def request(method: str, url: str, *, timeout: float, **options: Any) -> requests.Response:
    """As requests.request, without the environment's proxies and .netrc; raises what it raises."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=timeout, **options)
