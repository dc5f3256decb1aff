"""What a notice says to change, for each way in which TLS fails."""

import ssl

import pytest

from tercet.export.advice import after_tls

OURS = (
    "otlp_client_certificate (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE) and otlp_client_key "
    "(OTEL_EXPORTER_OTLP_CLIENT_KEY) must be ones that it accepts"
)

ENDPOINT = "otlp_endpoint (OTEL_EXPORTER_OTLP_ENDPOINT)"


def failed(reason):
    error = ssl.SSLError(1, "it failed")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (failed("TLSV13_ALERT_CERTIFICATE_REQUIRED"), f"it failed. {OURS}"),
        (failed("TLSV1_ALERT_UNKNOWN_CA"), f"it failed. {OURS}"),
        (failed("SSLV3_ALERT_BAD_CERTIFICATE"), f"it failed. {OURS}"),
        (ssl.SSLEOFError(8, "it hung up"), f"it hung up. If it asks who we are, {OURS}"),
        (
            failed("WRONG_VERSION_NUMBER"),
            f"it failed. {ENDPOINT} must begin with http:// if it speaks no TLS",
        ),
        (failed("TLSV1_ALERT_INTERNAL_ERROR"), "it failed"),
        (failed(None), "it failed"),
        (ssl.SSLError(), "SSLError"),
    ],
)
def test_what_tls_says_comes_with_what_to_change(error, said):
    """Where there is a setting that mends it."""
    assert after_tls(error) == said
