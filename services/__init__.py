"""The six services. None imports another: they speak through events and RPC."""
