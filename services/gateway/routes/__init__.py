"""HTTP routes by resource, as mix-ins of the gateway's class."""
