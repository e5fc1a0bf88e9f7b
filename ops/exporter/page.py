"""docs/metrics.md, from the tables that the exporter works by."""

from handlers.telemetry import STAGE_SECONDS
from ops.exporter.access_log import OTHER
from ops.exporter.buckets import FACTOR, REQUEST_SECONDS
from ops.exporter.clock import LONGEST_S, TOLERANCE_S
from ops.exporter.collector import DEADLINE_S
from ops.exporter.families import FAMILIES, SOURCES
from ops.exporter.sources.canary import TIMEOUT_S as CANARY_TIMEOUT_S
from ops.exporter.sources.torchserve import GPU_INTERVAL_S, GPU_STALE_S, TIMEOUT_S
from ops.exporter.tail import RESUME_S
from ops.exporter.torchserve_table import TABLE, Given

_SOURCES = {
    "workers": "the workers' own measurements, from their files in `var/embedkit-telemetry`",
    "access_log": "whole requests, from `var/log/gateway.log` and, if they came past it, `var/log/access.log`",
    "torchserve_metrics": "TorchServe's port 8082",
    "management": "TorchServe's management API, once for each served model",
    "supervisor": "supervisord, over its socket",
    "watchdog": "what the [watchdog](watchdog.md) did, from `var/state/watchdog.json`",
    "canary": "known texts that the exporter sends to TorchServe itself",
    "desired": "`archives/models.toml` and the desired state",
    "gateway": "HAProxy, over its socket; absent, with its metrics, where no gateway runs",
    "gateway_canary": "known texts that it sends through the gateway; absent where none runs",
    "door": "the gateway, by a request without a key, which is neither logged nor counted to a key",
    "nvml": "NVIDIA's driver; absent, with all its metrics, where there is none",
    "host": "this machine, or the container: whichever limit rules",
}


def _metrics(source: str) -> str:
    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.text} |"
        for one in FAMILIES.values()
        if one.source == source
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


def _mapping() -> str:
    rows = []
    for row in TABLE:
        if isinstance(row, Given):
            labels = [f"`{ours}` from `{theirs}`" for theirs, ours in row.labels.items()]
            labels += [f'`{name}="{value}"`' for name, value in row.fixed.items()]
            times = "" if row.factor == 1 else f"; × {row.factor:g}"
            rows.append(f"| `{row.theirs}` | `{row.ours}` | {', '.join(labels)}{times} |")
        else:
            rows.append(f"| `{row.theirs}` | left out | {row.why} |")
    return "\n".join(["| on port 8082 | here | how |", "|---|---|---|", *rows])


def metrics_page(header: str) -> str:
    """docs/metrics.md: every metric, and what has to be known to read it."""
    sections = "\n\n".join(f"### {source}\n\n{_SOURCES[source][0].upper()}{_SOURCES[source][1:]}.\n\n{_metrics(source)}"
                           for source in SOURCES)  # fmt: skip
    stages, requests = len(STAGE_SECONDS), len(REQUEST_SECONDS)
    return f"""{header}
# Metrics

The program `exporter` answers on `http://127.0.0.1:9108/metrics` (`exporter_port`, [settings](settings.md)), and
`embedkit top` shows the same figures in a terminal. Each scrape asks every source at once. What has not come after
{DEADLINE_S:g} s is left out of that scrape: its `embedkit_source_up` is 0, `embedkit_source_errors_total` says what
was wrong, the exporter's log (`var/log/exporter.log`) says it once, and the others are not touched. A source that
hangs is not asked again until it has come back or its timeout has passed (HTTP: {TIMEOUT_S:g} s). The exporter runs
without TorchServe, and from before it starts.

## All metrics

{sections}

### exporter

The exporter itself, beside the usual `process_*` of its process.

{_metrics("exporter")}

## What a request is

Each is counted once, from the log of the door that it came through. At the gateway: one line of its log that is no GET
and no HEAD, with the status that its user got and the time from its first byte to the end of the answer. A client that
went away before is a 499. What the gateway passes on carries a secret in its query and is left out of the other log.

At TorchServe's own port: one line of its access log that names a model: `/predictions/…`, `/explanations/…`, and
KServe's `/v1/models/<model>:predict` and `/v2/models/<model>/infer`. Pings, metrics, management and paths that name no
model are none. Refused requests count: a full queue or no worker is a 503, an unknown model a 404, a body over
TorchServe's limit a 413. What is not HTTP is a 400 of `{OTHER}`.

`model` is a served model; any other name is `{OTHER}`, and so is a request to `/invocations`, which names none. `code`
is the status. So no client can make series.

The exporter reads both logs every second, over rotations. Where it has got to stands in
`var/state/access-log-position` and `gateway-log-position`, written before a line is counted: a restarted exporter goes
on there, if it was away for less than {RESUME_S / 60:g} minutes. Lines that were rotated away unread count in
`embedkit_source_errors_total` with the kind `lost_lines`. A full
disk costs lines, never a request: log4j2 drops what it cannot write.

**When the clock is set.** TorchServe times requests by the wall clock, in whole milliseconds. The exporter compares the
wall clock with the monotonic one every second. A jump is a step (`embedkit_clock_steps_total`), and the duration of
each request that may have been in the server at that moment, as well as any that is negative or beyond
{LONGEST_S / 60:g} minutes, is not believed: the request is counted with the duration of the last sound one of its model
and code, and in `embedding_request_unmeasured_total`. Jumps under {TOLERANCE_S * 1000:g} ms are not seen. HAProxy
measures by a clock that nobody sets: its durations are believed.

**Canaries.** Every `canary_interval_s` seconds the exporter sends each served model the text whose vector was kept when
the archive was verified. These requests, and those of the watchdog, `embedkit status` and `embedkit up`, carry a secret
of this deployment (`var/state/canary-token`) in their query and in a header. A second canary goes through the gateway,
where it runs, with a [key of its own](gateway.md#keys). They count neither as requests nor in the
workers' metrics; a batch that holds canaries alone is not measured. TorchServe's own counters cannot tell them apart
and hold them. A canary has {CANARY_TIMEOUT_S:g} s, and none is sent while the one before has not come back.

## Buckets

A quantile is interpolated within one bucket, so it is wrong by at most the bucket's width. Neighbouring bounds are a
factor of {FACTOR:g} apart, so p99 is within 10 %, whatever the distribution: for `embedding_stage_duration_seconds`
from 1 ms to 10 s ({stages} buckets), for `embedding_request_duration_seconds` from 10 ms to 10 s ({requests} buckets).
Below 10 ms the log's whole milliseconds decide. Few labels pay for the many buckets.

## Cost

`make telemetry-cost` measures it. Processor time of one request that is alone in its batch, on two cores of an Intel
Xeon with nothing else to do: 8.6 µs in the worker (all stages, the batch, what it is at), 5.3 µs in TorchServe for the
line of the access log, 0.9 µs in the exporter for counting the line: 14.8 µs together. In batches of 32 the worker's
part is 0.3 µs a request. A request that comes through the gateway has a line in its log too, which costs the exporter
another 2.2 µs.

## TorchServe's own metrics

Port 8082 knows sums and the last request, so percentiles, queue length, batch size and worker states come from
elsewhere. Time in the queue is there as a sum alone, `torchserve_queue_latency_seconds_total`, and a worker sees a
request only once it has left the queue: no histogram can be made of it. What port 8082 has is given on under proper
names and units, once, without the label of the host; a restart of the server is an ordinary reset. The management API
is asked at every scrape; with workers on a GPU at most every {GPU_INTERVAL_S:g} s and beside the scrapes, because
TorchServe then runs nvidia-smi for each worker: the last answer serves for up to {GPU_STALE_S:g} s.

{_mapping()}

## Workers that died

A worker's counts outlive it. The exporter folds the files of dead workers into one; a start of the server begins anew.
A damaged file counts in `embedkit_source_errors_total` with the kind `damaged_file` at each scrape, and its last sound
values stay in the sums.
"""
