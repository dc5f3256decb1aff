"""A script that asks `amtool` whether each alert would reach whom it should."""

from tercet.declare.burn_rate import RESPONSES
from tercet.declare.objective import Catalog
from tercet.generate import names
from tercet.generate.routes import DEADMAN, receivers_of


def render_route_tests(header: str, catalog: Catalog) -> str:
    """Write the script; it ends with 1 at the first alert that goes astray."""
    teams = sorted({catalog.team, *(service.team for service in catalog.services.values())})
    lines = [
        "#!/bin/sh",
        header,
        "set -eu",
        'cd "$(dirname "$0")/.."',
        "amtool check-config alertmanager.yaml",
        "reaches() {",
        '  receivers=$1; shift; echo "$* reaches $receivers"',
        '  amtool config routes test --config.file=alertmanager.yaml --verify.receivers="$receivers" "$@"',
        "}",
        f"reaches {DEADMAN} alertname={names.WATCHDOG} severity=SEV-4 notify=ticket team={catalog.team}",
    ]
    for team in teams:
        for response in RESPONSES.values():
            told = ",".join(receivers_of(catalog, team, response))
            labels = f"alertname=Any team={team} severity={response.severity} notify={response.notify}"
            lines.append(f"reaches {told} {labels}")
    return "\n".join(lines) + "\n"
