"""Does the server in this container answer? Status 0 if so; else 1, with one line that says what it answered.

    python -I health.py readyz      ready to take requests: for HEALTHCHECK, `depends_on`, load balancers
    python -I health.py livez       the process answers: for what kills a container that does not

Standard library alone, since it runs every few seconds; without urllib, which would ask a proxy of the environment.
"""

import http.client
import os
import sys

TIMEOUT_S = 4.0  # below HEALTHCHECK's own, so that there is an answer to read
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens on all of them answers


def main() -> int:
    """Ask the route that the first argument names."""
    route = sys.argv[1] if len(sys.argv) > 1 else "readyz"
    # REID_HOST and REID_PORT as app.settings reads them; importing it would cost half a second each time.
    host = os.environ.get("REID_HOST", "")  # noqa: TID251
    port = int(os.environ.get("REID_PORT") or 8000)  # noqa: TID251
    connection = http.client.HTTPConnection(LOOPBACK.get(host, host), port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/{route}")
        answer = connection.getresponse()
        body = answer.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"{route}: no answer on port {port}: {error}")
        return 1
    finally:
        connection.close()
    print(f"{route}: {answer.status} {body}")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
