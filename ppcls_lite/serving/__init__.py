"""The HTTP and gRPC server: worker processes that each hold every network.

A request goes through `middleware` (limits, key, log, metrics), `routes` (what the addresses are),
`paddle_serving` or `kserve` (what bodies look like) and `compute` (the one thread of a worker that
decodes and runs networks). `store` keeps the networks; `server` keeps the processes.
"""
