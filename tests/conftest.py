"""Makes tests independent of how they were started and of how busy the machine is."""

import signal

from hypothesis import settings

# A shell starts what it puts into the background with SIGINT ignored, and every program below inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
