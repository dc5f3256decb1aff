"""What a reader collected, as plain dictionaries."""


def collected(reader):
    """By name, each series by its attribute values: its value, or how many values it recorded."""
    found = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                series = found.setdefault(metric.name, {})
                for point in metric.data.data_points:
                    key = tuple((point.attributes or {}).values())
                    series[key] = point.value if hasattr(point, "value") else point.count
    return found
