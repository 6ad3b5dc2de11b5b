"""`darkroom hostile-providers`: AI vendors of our own that misbehave by script, for trying things out by hand.

Direct them while they run:
``POST /control/play {"scripts": […], "vendor": …}``, ``POST /control/always {"script": …}``;
``GET /control`` lists the scripts, ``GET /control/bills`` what was billed. A prompt with ``[[script:name]]`` in it goes
by that script.
"""

import argparse
import os
import signal
import threading

from tools.failures import CommandFailed
from tools.hostile_providers.scripts import SCRIPTS
from tools.hostile_providers.server import BASE_PATHS, HostileProviders


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--script", default="ok", choices=SCRIPTS, help="what every operation goes by (default: ok)")
    parser.add_argument("--time-scale", type=float, default=1.0, help="0.1 makes every wait a tenth (default: 1)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    secret = os.environ.get("PROVIDER_REPLICATE_WEBHOOK_SECRET")
    vendors = HostileProviders(time_scale=arguments.time_scale, webhook_secret=secret)
    vendors.world.always(arguments.script)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with vendors.running(port=arguments.port):
            for name in BASE_PATHS:
                print(f"PROVIDER_{name.upper()}_BASE_URL={vendors.base_url(name)}", flush=True)
            print(f"PROVIDER_FAL_JWKS_URL={vendors.address}/.well-known/jwks.json", flush=True)
            if not secret:
                print(f"PROVIDER_REPLICATE_WEBHOOK_SECRET={vendors.webhooks.replicate_secret}", flush=True)
            print(f"Scripts: {vendors.address}/control", flush=True)
            stopped.wait()
    except OSError as error:
        raise CommandFailed(f"port {arguments.port} cannot be used: {error.strerror}") from error
    print(f"{len(vendors.world.bills)} pieces of work were billed.")
    return 0
