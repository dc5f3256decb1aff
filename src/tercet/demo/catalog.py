"""Who takes part in the demo, and on which ports; imports nothing, so that it costs nothing."""

GATEWAY = "gateway"
AUTH = "auth-service"
ORDERS = "order-service"
PAYMENTS = "payment-service"
NOTIFICATION = "notification"

RECEIVER = "receiver"

#: The span of the order service's database.
DATABASE = "database"

#: Each service's preferred port on 127.0.0.1.
PORTS = {GATEWAY: 8101, AUTH: 8102, ORDERS: 8103, PAYMENTS: 8104, NOTIFICATION: 8105}

RECEIVER_PORT = 4318

#: Where configs/objectives.yaml sends tickets and signs of life: a service there would count them.
WEBHOOK_PORT = 8106

#: The `deployment.environment.name` of a demo that is not told another.
ENVIRONMENT = "demo"
