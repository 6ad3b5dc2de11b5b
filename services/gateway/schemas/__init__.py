"""What clients send and get, a module a resource; the OpenAPI document is made of these."""
