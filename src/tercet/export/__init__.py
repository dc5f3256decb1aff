"""What happens after emit: processors, exporters and readers; imports the OpenTelemetry SDK and declare."""
