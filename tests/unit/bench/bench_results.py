"""Results such as a run leaves, with figures that are easy to reckon with."""

from typing import Any


def costing(microseconds: float, received: int = 100) -> list[dict[str, Any]]:
    """Three rounds of which one is far off, so that a mean would show it."""
    return [
        {
            "microseconds": cost,
            "megabytes": 60.0,
            "requests": 100,
            "received": {"server_spans": received, "logs": 100, "traces": 100},
        }
        for cost in (microseconds, microseconds * 9, microseconds)
    ]


def loaded(per_second: float, p99: float) -> list[dict[str, Any]]:
    """One round over HTTP."""
    return [{"per_second": per_second, "p99": p99, **costing(1)[0]}]


def filled(offered: int, delivered: int, dropped: int) -> dict[str, Any]:
    """One trial of an exporter in ten seconds."""
    return {
        "offered": offered,
        "delivered": delivered,
        "dropped": {"queue_full": dropped},
        "received": delivered,
        "offered_rate": offered / 10,
        "delivered_rate": delivered / 10,
    }


def results() -> dict[str, Any]:
    """A whole run: tercet's tax is 20 where upstream's is 100."""
    a = {"bare": costing(100), "upstream": costing(200, received=34), "tercet": costing(120)}
    saturated = {
        "flooded": filled(1000, 900, 100),
        "paced": filled(800, 800, 0),
        "upstream": {**filled(1000, 700, 0), "dropped": {}},
        "saturation": 90.0,
    }
    encoded = {"ours": [6.0], "theirs": [42.0], "ratio": [7.0], "same": True}
    return {
        "machine": {
            "python": "3.11.7",
            "cores": 2,
            "processor": "a processor",
            "load": "0.1",
            "is_compiled": True,
            "versions": {"fastapi": "0.165.0"},
        },
        "left_out": {"ddtrace": "not installed"},
        "a": {"closed": a, "complete": a},
        "b": {"bare": loaded(6000, 5.0), "upstream": loaded(1500, 45.0), "tercet": loaded(3600, 10.0)},
        "c": {'`setup_observability("orders")`': [{"seconds": 0.3, "megabytes": 41.0}]},
        "d": {
            "encoding": {"spans": encoded, "logs": encoded},
            "scrape": {
                "declared": [0.02],
                "ours": [0.05],
                "theirs": [0.2],
                "ratio": [0.1],
                "sdk_ratio": [0.25],
                "idle": [0.001],
                "held_up": [0.004],
                "held_up_by_theirs": [0.03],
            },
            "saturation of traces": saturated,
            "saturation of logs": saturated,
        },
        "e": {
            load: {"bare": costing(100), "tercet": costing(100 + tax)}
            for load, tax in {
                "sampled": 20,
                "unsampled": 8,
                "no attributes": 20,
                "usual": 30,
                "half the attributes": 70,
                "attributes": 120,
                "routes": 30,
                "series": 60,
            }.items()
        },
        "f": {
            "counter": {"sdk": 4.0, "unbound": 3.0, "bound": 1.0},
            "histogram": {"sdk": 4.0, "unbound": 2.0, "bound": 3.0},
        },
    }
