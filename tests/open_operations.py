"""What anybody may ask for without a credential: written out, once, for all tests that hold the API against it."""

ROUTES = {
    "GET /healthz",
    "GET /readyz",
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/errors",
    "POST /v1/invitations/lookup",
    "POST /v1/auth/signup",
    "POST /v1/auth/login",
    "POST /v1/auth/password-reset",
    "POST /v1/auth/password-reset/confirm",
    "GET /v1/unsubscribe",
    "POST /v1/unsubscribe",
    "GET /v1/deletion-receipts/keys",
}
ALIASES = {"POST /api/auth/signup"}
OPERATIONS = ROUTES | ALIASES
