"""A lean NATS and JetStream client for hot paths: lists instead of awaits, one write instead of many.

It knows nothing of Weft. Streams and consumers are managed elsewhere (services/chassis/bus.py); here are
the paths that run tens of thousands of times a second, where a task, a future or a timer for each message
would cost more than the message.

    protocol    bytes to messages, commands to bytes
    headers     the header block of a message
    signing     nkeys and credentials files
    servers     which servers there are, and which to try next
    link        one TCP connection, from its handshake to its end
    connection  what outlives a link: subscriptions, the way back after an outage, the move out of lame duck
    publisher   group commit: an idle publisher sends at once, a busy one forms the next atomic batch
    pulling     messages of a durable consumer, by credit, in lists
    acks        acknowledgements, confirmed in bulk
    stream      reading, purging and deleting by sequence or subject
"""
