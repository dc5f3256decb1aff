"""What running code touches; imports the OpenTelemetry API, declare and errors, never the SDK."""
