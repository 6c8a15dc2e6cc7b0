"""What the service does under load, measured over HTTP, and said only when the measurement holds.

    python -m tests.load sweep --model MODEL_DIR --html load.html   # curves: latency and goodput against offered load
    python -m tests.load overload --model MODEL_DIR                 # one scenario; `--help` lists them
    python -m tests.load.rivals --model MODEL_DIR                   # beside LitServe and a plain FastAPI handler

Server, bare model and rivals run in processes of their own; this process sends the requests. Everything is bounded in time
and in count, and stays on this machine unless told otherwise. A run in which the generator or a process that has no part in it
may have been the bottleneck says so, and counts as invalid. Linux only: what processes use is read from /proc.
"""
