"""What payment counts."""

from prometheus_client import Counter, Gauge

CALLS = Counter("weft_payment_gateway_calls", "Calls of gateways.", ["gateway", "call", "outcome"])
OVERDUE = Gauge("weft_payment_overdue", "Operations whose outcome has been unknown for an hour or more.")
NOTICES = Counter("weft_payment_notices", "Webhooks of gateways.", ["gateway", "outcome"])
