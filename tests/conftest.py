"""Gives the processes that tests start the usual answer to Ctrl-C, however the tests themselves were started."""

import signal

# A shell starts what it puts into the background with SIGINT ignored, and every program below inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
