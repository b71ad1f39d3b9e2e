"""gRPC over HTTP/2 on asyncio: server and client, knowing nothing of Weft.

Read from the wire upwards: `huffman` and `hpack` (RFC 7541), `frames` and `settings` (RFC 9113 §4, §6),
`metadata` and `messages` (the gRPC-over-HTTP2 protocol document), then flow control, streams and
connections, and at the top `server` and `client`, which `in_process` joins without a socket.
"""
