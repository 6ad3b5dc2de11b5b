"""Steps of stories about streams of events: following by a client that does not wait for the end of what it is sent."""


def followed(client, headers, query="", **more):
    """Begin to follow; return the answer and its pieces."""
    answer = client.get(f"/v1/events/stream{query}", headers={**headers, **more}, buffered=False)
    return answer, answer.iter_encoded()


def ended(gateway, stream):
    """Look once at whose credentials are good; tell whether that has ended the stream."""
    gateway.watch.look(gateway.db, gateway.streams, gateway.identity_provider)
    return stream.closed
