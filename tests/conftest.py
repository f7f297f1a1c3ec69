"""For all tests."""

import signal

# Started with `&` from a script, a process ignores Ctrl-C, and so would the runs that tests stop.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
