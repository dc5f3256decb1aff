"""The embedded backend: a process of its own that speaks OTLP; never imported by the rooms below."""
