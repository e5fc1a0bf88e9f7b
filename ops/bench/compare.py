"""The same texts to this kit's service and, right after, to each other server in each of its settings."""

from dataclasses import replace
from pathlib import Path

from ops.bench import peers
from ops.bench.figures import Figures, figures
from ops.bench.load import closed_loop
from ops.bench.peers import Peer, Setting
from ops.bench.phases import Phases, describe
from ops.bench.result import PeerPoint
from ops.bench.texts import Profile
from ops.errors import OpsError

CONNECTIONS = 64


def environments(phases: Phases) -> dict[str, Path]:
    """Name → the programs of each peer that is asked for, installed before anything is measured.

    Raises:
        OpsError: there is no such peer, or it cannot be installed.
    """
    root = phases.settings.var / "bench" / "peers"
    return {peer.name: peers.install(peer, root, phases.progress) for peer in peers.chosen(phases.options.peers)}


def compare(
    phases: Phases, installed: dict[str, Path], model: Path, rates: dict[Profile, float], cores: int
) -> tuple[list[PeerPoint], dict[str, str]]:
    """Every peer, setting and profile; and peer → why, for those that could not be compared. `rates` are about how many
    texts of each profile this service answers a second.
    """
    points: list[PeerPoint] = []
    failed: dict[str, str] = {}
    for peer in peers.chosen(list(installed)):
        texts, served = {}, {}
        for profile, rate in rates.items():
            count = phases.how_many(rate, phases.options.closed_s / 2, CONNECTIONS)
            texts[profile] = phases.texts.take(profile, count)
            label = f"{profile}: {CONNECTIONS} connections, before {peer.name}"
            served[profile] = phases.closed(texts[profile], CONNECTIONS, label).texts_per_s
        try:
            points += _one(phases, peer, installed[peer.name], model, texts=texts, served=served, cores=cores)
        except OpsError as error:
            failed[peer.name] = str(error)
            phases.progress.say(f"{peer.name} could not be compared: {error}")
    return points, failed


def _one(
    phases: Phases,
    peer: Peer,
    programs: Path,
    model: Path,
    *,
    texts: dict[Profile, list[str]],
    served: dict[Profile, float],
    cores: int,
) -> list[PeerPoint]:
    points = []
    log = phases.settings.var / "bench" / "peers" / f"{peer.name}.log"
    for setting in peers.settings_of(peer, cores, quick=phases.options.quick):
        with peers.running(
            peer, setting, programs=programs, model=model, reference=phases.service.reference, log=log
        ) as target:
            for profile, wanted in texts.items():
                label = f"{profile}: {peer.name}, {setting}"
                warm = phases.texts.take(profile, 2 * CONNECTIONS)
                closed_loop(target, warm, connections=CONNECTIONS, progress=phases.progress, label=f"{label}: warm-up")
                with phases.contention.watch() as seen:
                    load = closed_loop(target, wanted, connections=CONNECTIONS, progress=phases.progress, label=label)
                found = replace(figures(load), others=seen.others)
                phases.progress.say(f"{label}: {describe(found)}")
                points.append(
                    peer_point(peer, setting, profile, found, connections=CONNECTIONS, served=served[profile])
                )
    return points


def peer_point(
    peer: Peer, setting: Setting, profile: Profile, found: Figures, *, connections: int, served: float
) -> PeerPoint:
    """What a peer came to on texts of which this service has answered `served` a second."""
    return PeerPoint(
        peer=peer.name,
        profile=profile,
        connections=connections,
        setting=str(setting),
        dtype=setting.dtype,
        figures=found,
        served=served,
        ratio=served / found.texts_per_s if found.texts_per_s else 0.0,
    )
