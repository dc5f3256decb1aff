"""Ask: what Prometheus has recorded of the objectives; imports generate and below, never OpenTelemetry."""
