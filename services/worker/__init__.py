"""Where jobs run: pools of workers and how many each wants; and the worker itself, a process that runs jobs.

The service knows pools and who gave a sign of life lately. It knows neither jobs nor queues' settings: those
are the queue's, and a worker asks the queue. A worker is no part of the service's process.
"""
