"""An objectives document from what was imported, for its owner to go on with."""

from collections.abc import Iterator

from tercet.declare.draft import Draft, Imported
from tercet.generate.promql import number
from tercet.generate.rulefile import text

_HEAD = """\
# Imported by `tercet slo import` from {sources}; yours from now on.
# docs/objectives.md of tercet explains each key.

# Those files do not say who is told, and how. `tercet generate` must know it: make these lines your own.
# team: platform
# links: {{grafana: "https://grafana.example.com", runbooks: "https://runbooks.example.com"}}
# contacts:
#   default:
#     page: {{pagerduty: {{routing_key_file: /etc/alertmanager/secrets/pagerduty}}}}
#     ticket: {{webhook: {{url: "https://tickets.example.com"}}}}
# deadman: {{webhook: {{url: "https://deadman.example.com"}}}}
"""


def render_document(imported: Imported) -> str:
    """Write the document."""
    return "\n".join(_lines(imported)) + "\n"


def _lines(imported: Imported) -> Iterator[str]:
    yield _HEAD.format(sources=" ".join(", ".join(imported.sources).split()))
    yield "services:"
    for service in dict.fromkeys(draft.service for draft in imported.drafts):
        yield f"  {service}:"
        if team := imported.teams.get(service):
            yield f"    team: {team}"
        yield "    # Nobody has written down what helps whoever is woken. This is a start."
        yield from _runbook(service)
    yield ""
    yield "objectives:"
    for draft in imported.drafts:
        yield from _objective(draft)


def _objective(draft: Draft) -> Iterator[str]:
    yield f"  # {' '.join(draft.place.split())}"
    yield f"  - service: {draft.service}"
    yield f"    name: {draft.name}"
    yield "    kind: query"
    yield f"    target: {number(draft.target * 100)}%"
    yield f"    period: {draft.period}"
    for key, query in draft.queries:
        yield f"    {key}: |-"
        yield from (f"      {line}".rstrip() for line in query.split("\n"))
    if draft.off:
        yield f"    severity: {{{', '.join(f'{window}: off' for window in draft.off)}}}"
    if draft.impact or draft.runbook:
        yield from _runbook(draft.service, draft.impact, draft.runbook)


def _runbook(service: str, impact: str = "", followed: str = "") -> Iterator[str]:
    yield "    runbook:"
    yield f"      impact: {text(impact or f'Users of {service} do not get what they were promised.')}"
    yield "      causes:"
    yield f"        - A deployment of {service} within the last hour."
    yield f"        - Something that {service} needs fails or is slow."
    yield "      actions:"
    if followed:
        yield f"        - {text(f'Follow {followed}')}"
    yield "        - Look what was deployed within the last hour, and roll it back."
    yield f"        - Look which alerts fire of what {service} needs, and go there first."
