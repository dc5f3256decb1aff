"""All dashboards, as files for Grafana to provision."""

from tercet.declare.objective import Catalog
from tercet.generate.dashboard import render_dashboard
from tercet.generate.service_dashboard import service_dashboard
from tercet.generate.slo_dashboard import slo_dashboard
from tercet.generate.telemetry_dashboard import telemetry_dashboard

_BUILDERS = (service_dashboard, slo_dashboard, telemetry_dashboard)


def render_dashboards(mark: str, catalog: Catalog) -> dict[str, str]:
    """Render each dashboard under the path of its file."""
    dashboards = [build(catalog) for build in _BUILDERS]
    return {f"dashboards/{each.uid}.json": render_dashboard(mark, each) for each in dashboards}
