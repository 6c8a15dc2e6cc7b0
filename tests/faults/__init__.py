"""What becomes of a gallery when things go wrong: its process is killed, its disk is full or read-only, its files are damaged.

    python -m tests.faults.kills --kills 200      # make faults
    python -m tests.faults.soak --minutes 10      # make soak

A kill is SIGKILL: the kernel lives on, and with it what was written and not yet synced. What a power cut does beyond that
rests on SQLite's `synchronous = FULL`, and is not tried here.
"""
